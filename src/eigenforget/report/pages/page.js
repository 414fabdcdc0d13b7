"use strict";
(function () {
  const charts = Array.from(document.querySelectorAll("script[data-chart]"), (holder) => ({
    node: document.getElementById(holder.dataset.chart),
    spec: JSON.parse(holder.textContent),
  }));

  // The width of what is printed is that of A4 or Letter, whatever the width of the screen.
  const PAPER_WIDTH = 700;
  let printing = false;

  function shape(width) {
    return printing ? "paper" : width >= 820 ? "wide" : width >= 520 ? "medium" : "narrow";
  }

  // Text colour and the number of columns depend on the reader's screen, so they are set here and not in the records.
  function changes(chart) {
    const folded = (chart.spec.layout.meta || {})[shape(chart.node.clientWidth)] || {};
    const colour = getComputedStyle(document.documentElement).getPropertyValue("--text").trim();
    const sheet = printing ? { width: PAPER_WIDTH, "font.color": "#000000" } : { width: null, autosize: true, "font.color": colour };
    return Object.assign(sheet, folded);
  }

  function draw(chart) {
    const still = window.matchMedia("(pointer: coarse)").matches;
    const layout = Object.assign({}, chart.spec.layout, still ? { dragmode: false } : {});
    chart.node.style.minHeight = "";
    Plotly.newPlot(chart.node, chart.spec.data, layout, { responsive: true, displayModeBar: false })
      .then(() => Plotly.relayout(chart.node, changes(chart)));
  }

  function again() {
    charts.forEach((chart) => Plotly.relayout(chart.node, changes(chart)));
  }

  charts.forEach(draw);

  // A figure's choices are lists of the traces that are seen; without this script the first one's are drawn and no list is shown.
  document.querySelectorAll("select[data-choices]").forEach((list) => {
    const chart = charts.find((c) => c.node.id === list.dataset.choices);
    list.closest(".choice").hidden = false;
    list.addEventListener("change", () => Plotly.restyle(chart.node, { visible: chart.spec.layout.meta.choices[list.value].visible }));
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  // Before the pages are counted, which the change of the medium is not; it stands for tools that only change the medium.
  function print(started) {
    if (started === printing) return;
    printing = started;
    again();
  }
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
  window.matchMedia("print").addEventListener("change", (medium) => print(medium.matches));
  let waiting = 0;
  let last = window.innerWidth;
  window.addEventListener("resize", () => {
    // On phones the address bar changes the height while scrolling; only a new width asks for new columns.
    if (window.innerWidth === last) return;
    last = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(again, 150);
  });

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
