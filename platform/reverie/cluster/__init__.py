"""The parts of a run as Ray actors: placed, launched, called and replaced. Only here is Ray."""
