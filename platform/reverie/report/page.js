"use strict";
// Toggles methods, sorts tables, and reads values back out of the charts.
(() => {
  const tip = document.getElementById("tip");
  const names = [...document.querySelectorAll(".legend button")].map((b) => b.textContent.trim());

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const part of document.querySelectorAll(`.m${button.dataset.m}:not(button)`)) {
        part.toggleAttribute("hidden", !shown);
        part.style.display = shown ? "" : "none";
      }
    });
  }

  const value = (row, column) => {
    const text = row.cells[column].dataset.v;
    if (text === undefined) return null;
    const number = Number(text);
    return Number.isNaN(number) ? text : number;
  };
  for (const head of document.querySelectorAll("thead th")) {
    head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, head.cellIndex), value(b, head.cellIndex)];
        if (x === null || y === null) return (x === null) - (y === null); // missing ones last
        const order = x < y ? -1 : x > y ? 1 : 0;
        return descending ? -order : order;
      });
      body.append(...rows);
    });
  }

  const points = (path) =>
    (path?.getAttribute("d") ?? "").slice(1).replace(/Z$/, "").split("L").map((p) => p.split(" ").map(Number));
  const shown = (number) => {
    const size = Math.abs(number);
    const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  };

  for (const chart of document.querySelectorAll(".chart")) {
    const [x0, x1, y0, y1, left, right, top, bottom] = chart.dataset.frame.split(" ").map(Number);
    const toX = (px) => x0 + ((px - left) / (right - left)) * (x1 - x0);
    const toY = (py) => y0 + ((bottom - py) / (bottom - top)) * (y1 - y0);
    const cursor = chart.querySelector(".cursor");
    let at = null;

    const show = (px, clientX, clientY) => {
      at = Math.min(Math.max(px, left), right);
      const lines = [];
      let x = null;
      for (const group of chart.querySelectorAll("g.m:not([hidden])")) {
        const line = points(group.querySelector(".line"));
        let near = 0;
        line.forEach((point, i) => { if (Math.abs(point[0] - at) < Math.abs(line[near][0] - at)) near = i; });
        x = x === null || Math.abs(line[near][0] - at) < Math.abs(x - at) ? line[near][0] : x;
        const row = document.createElement("div");
        row.className = `m${group.dataset.m}`;
        row.append(document.createElement("i"));
        let text = `${names[group.dataset.m]}: ${shown(toY(line[near][1]))}`;
        const band = points(group.querySelector(".band"));
        if (band.length > 1) {
          text += ` [${shown(toY(band[near][1]))}, ${shown(toY(band[band.length - 1 - near][1]))}]`;
        }
        row.append(text);
        lines.push(row);
      }
      if (x === null) return hide();
      cursor.removeAttribute("hidden");
      for (const [name, number] of Object.entries({ x1: x, x2: x, y1: top, y2: bottom })) cursor.setAttribute(name, number);
      const head = document.createElement("div");
      head.textContent = `${shown(toX(x))} ${chart.dataset.x}`;
      tip.replaceChildren(head, ...lines);
      tip.hidden = false;
      tip.style.left = `${Math.max(4, Math.min(clientX + 14, innerWidth - tip.offsetWidth - 4))}px`;
      tip.style.top = `${Math.max(4, Math.min(clientY + 14, innerHeight - tip.offsetHeight - 4))}px`;
    };
    const hide = () => { tip.hidden = true; cursor.setAttribute("hidden", ""); };
    const width = () => chart.viewBox.baseVal.width;
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      show(((event.clientX - box.left) / box.width) * width(), event.clientX, event.clientY);
    });
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") return hide();
      if (!step) return;
      event.preventDefault();
      const box = chart.getBoundingClientRect();
      const px = at === null ? right : at + (step * (right - left)) / 40;
      show(px, box.left + (px / width()) * box.width, box.top + box.height / 3);
    });
  }
})();
