"""World models of video without actions: what APV, ContextWM and IPV share."""
