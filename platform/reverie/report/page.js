"use strict";
// Toggles methods, sorts tables, and reads values back out of the charts.
(() => {
  const tip = document.getElementById("tip");
  const buttons = [...document.querySelectorAll(".legend button")];
  const names = buttons.map((button) => button.textContent);

  for (const button of buttons) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const part of document.querySelectorAll(`.m.m${button.dataset.m}`)) part.toggleAttribute("hidden", !shown);
    });
  }

  // Tables: numbers by size and before words (`inf`), words by the alphabet, what is missing last either way.
  const value = (row, column) => {
    const text = row.cells[column].dataset.v;
    if (text === undefined) return null;
    return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
  };
  const compare = (x, y) =>
    typeof x === "number" && typeof y === "number"
      ? Math.sign(x - y) || 0
      : String(x).localeCompare(String(y), "en", { numeric: true });
  for (const head of document.querySelectorAll("thead th")) {
    head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, head.cellIndex), value(b, head.cellIndex)];
        if (x === null || y === null) return (x === null) - (y === null);
        return descending ? compare(y, x) : compare(x, y);
      });
      body.append(...rows);
    });
  }

  // Charts: paths are read as the points that they were drawn from.
  const points = (path) =>
    (path?.getAttribute("d") ?? "").slice(1).replace(/Z$/, "").split("L").map((point) => point.split(" ").map(Number));
  const text = (number) => {
    const size = Math.abs(number);
    if (size >= 1000) return number.toLocaleString("en", { maximumSignificantDigits: 4 });
    const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    return number.toLocaleString("en", {
      minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: "negative",
    });
  };
  const NEAR = 0.02; // pixels: two roundings

  for (const chart of document.querySelectorAll(".chart")) {
    const [x0, x1, y0, y1, left, right, top, bottom] = chart.dataset.frame.split(" ").map(Number);
    const toX = (px) => x0 + ((px - left) / (right - left)) * (x1 - x0);
    const toY = (py) => y0 + ((bottom - py) / (bottom - top)) * (y1 - y0);
    const cursor = chart.querySelector(".cursor");
    const width = chart.viewBox.baseVal.width;
    let at = null; // of the pointer or the arrow keys, in pixels of the chart

    const row = (group, line, x) => {
      // A method counts with its last point at or before x, and not at all past its end.
      let last = -1;
      while (last + 1 < line.length && line[last + 1][0] <= x + NEAR) last += 1;
      if (last < 0 || line[line.length - 1][0] < x - NEAR) return null;
      const band = points(group.querySelector(".band"));
      const interval = band.length > 1 ? [band[last], band[band.length - 1 - last]].map((p) => text(toY(p[1]))) : [];
      const made = document.createElement("div");
      made.className = `m${group.dataset.m}`;
      const key = document.createElement("i");
      key.className = "key";
      made.append(key, `${names[group.dataset.m]}: ${text(toY(line[last][1]))}`);
      if (interval.length) made.append(` [${interval.join(", ")}]`);
      return made;
    };
    const hide = () => {
      tip.hidden = true;
      cursor.setAttribute("hidden", "");
    };
    const show = (px, clientX, clientY) => {
      at = Math.min(Math.max(px, left), right);
      const groups = [...chart.querySelectorAll("g.m:not([hidden])")];
      const lines = groups.map((group) => points(group.querySelector(".line")));
      const all = lines.flat().map((point) => point[0]);
      if (!all.length) return hide();
      const x = all.reduce((best, each) => (Math.abs(each - at) < Math.abs(best - at) ? each : best));
      const rows = groups.map((group, i) => row(group, lines[i], x)).filter((made) => made !== null);
      cursor.removeAttribute("hidden");
      for (const [name, number] of Object.entries({ x1: x, x2: x, y1: top, y2: bottom })) cursor.setAttribute(name, number);
      const head = document.createElement("div");
      const { unit, name } = chart.dataset;
      head.textContent = unit ? `${text(toX(x))} ${unit}` : `${name} ${text(toX(x))}`;
      tip.replaceChildren(head, ...rows);
      tip.hidden = false;
      // Beside the pointer; in a narrow window at its end that is further from it.
      const [rightEnd, bottomEnd] = [innerWidth - tip.offsetWidth - 4, innerHeight - tip.offsetHeight - 4];
      const narrow = innerWidth <= 700;
      const y = narrow ? (clientY > innerHeight / 2 ? 4 : bottomEnd) : Math.min(clientY + 14, bottomEnd);
      tip.style.left = `${Math.max(4, narrow ? 4 : Math.min(clientX + 14, rightEnd))}px`;
      tip.style.top = `${Math.max(4, y)}px`;
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      show(((event.clientX - box.left) / box.width) * width, event.clientX, event.clientY);
    });
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const step = (right - left) / 40;
      const from = at ?? right + step;
      const px = { ArrowLeft: from - step, ArrowRight: from + step, Home: left, End: right }[event.key];
      if (px === undefined) return;
      event.preventDefault();
      const box = chart.getBoundingClientRect();
      show(px, box.left + (px / width) * box.width, box.top + box.height / 3);
    });
  }
})();
