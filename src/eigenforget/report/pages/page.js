"use strict";
(function () {
  // --- what stands under the reader's pointer ---

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const REACH = 22; // pixels from a point to the pointer

  // Every vertex of a line and every middle of a mark begins with M or L; what draws a mark is in small letters.
  function pointsOf(svg) {
    if (svg.points) return svg.points;
    svg.points = [];
    svg.querySelectorAll("g[data-name]").forEach((trace) => {
      const texts = trace.dataset.texts ? JSON.parse(trace.dataset.texts) : null;
      trace.querySelectorAll("path:not(.bar)").forEach((path) => {
        Array.from(path.getAttribute("d").matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g), ([, x, y], i) =>
          svg.points.push({ x: Number(x), y: Number(y), name: trace.dataset.name, text: texts && texts[i] }));
      });
    });
    return svg.points;
  }

  // Values are read back from places, so that the page need not hold them twice.
  function valueAt(place, [name, form, log, low, high, from, to]) {
    if (form === "-") return "";
    const end = low + ((place - from) / (to - from)) * (high - low);
    const value = log ? 10 ** end : end;
    const digits = Number((form === "%" ? 100 * value : value).toPrecision(3));
    return `${name ? `${name} ` : ""}${digits}${form === "%" ? "%" : ""}`;
  }

  function told(point, scales) {
    if (point.text) return point.text;
    const values = [valueAt(point.x, scales[0]), valueAt(point.y, scales[1])].filter(Boolean);
    return values.length ? `${point.name}: ${values.join(", ")}` : point.name;
  }

  function look(event) {
    const svg = event.target.closest("svg[data-scales]");
    if (!svg) { tip.hidden = true; return; }
    const box = svg.getBoundingClientRect();
    const unit = svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * unit, (event.clientY - box.top) * unit];
    let [best, far] = [null, REACH * unit];
    for (const point of pointsOf(svg)) {
      const distance = Math.hypot(point.x - x, point.y - y);
      if (distance < far) [best, far] = [point, distance];
    }
    tip.hidden = best === null;
    if (best === null) return;
    tip.textContent = told(best, JSON.parse(svg.dataset.scales));
    const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 6);
    tip.style.left = `${Math.max(6, left) + scrollX}px`;
    tip.style.top = `${event.clientY + 16 + scrollY}px`;
  }
  document.addEventListener("pointermove", look);
  document.addEventListener("pointerdown", look);

  // --- a name in a legend brings out what is called so ---

  document.querySelectorAll(".legend").forEach((legend) => {
    const traces = legend.closest("figure").querySelectorAll("g[data-name]");
    legend.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const only = button.getAttribute("aria-pressed") !== "true";
      legend.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(only && b === button)));
      const name = button.textContent.trim();
      traces.forEach((trace) => trace.classList.toggle("faint", only && trace.dataset.name !== name));
    });
  });

  // --- choices: without this script the first is seen and no list is shown ---

  document.querySelectorAll(".choice select").forEach((list) => {
    const plots = list.closest("figure").querySelectorAll("[data-choice]");
    list.closest(".choice").hidden = false;
    list.addEventListener("change", () => plots.forEach((plot) => { plot.hidden = plot.dataset.choice !== list.value; }));
  });

  // --- folds: a link into one opens it, and paper shows all ---

  function open() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  }
  window.addEventListener("hashchange", open);
  open();
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    closed.forEach((fold) => { fold.open = true; });
  });
  window.addEventListener("afterprint", () => closed.forEach((fold) => { fold.open = false; }));

  // --- tables that sort ---

  function keyOf(row, column) {
    const cell = row.cells[column];
    if (column === 0) return cell.textContent.trim();
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  }
  function sortBy(table, heads, column) {
    const head = heads[column];
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((h) => h.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = Array.from(table.tBodies[0].rows);
    rows.sort((a, b) => {
      const [x, y] = [keyOf(a, column), keyOf(b, column)];
      // What was not measured stays last in either direction.
      if (x === null || y === null) return (x === null) - (y === null);
      const order = column === 0 ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    });
    rows.forEach((row) => table.tBodies[0].appendChild(row));
  }
  document.querySelectorAll("table.metric-table").forEach((table) => {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(table, heads, column)));
  });
})();
