"use strict";
(() => {
  const ERRORS = 1, NARROWEST = 80, NARROW = 480;
  const {datasets, charts} = JSON.parse(document.getElementById("charts").textContent);
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  // Data sets are kept as columns, which take a third of the space of records.
  const records = (columns) => {
    const names = Object.keys(columns);
    const rows = names.length ? columns[names[0]].length : 0;
    return Array.from({length: rows}, (_, row) => Object.fromEntries(names.map((name) => [name, columns[name][row]])));
  };

  // The colours of the page, so that a chart reads in the light and in the dark.
  const theme = (width) => {
    const style = getComputedStyle(document.documentElement);
    const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
    const words = {labelColor: ink, titleColor: ink, labelFontSize: 11, titleFontSize: 12};
    const narrow = width < NARROW;
    return {
      background: "transparent",
      font: "system-ui, sans-serif",
      title: {color: ink, subtitleColor: soft, anchor: "start", frame: "bounds", limit: width - 20},
      axis: {...words, gridColor: line, domainColor: soft, tickColor: soft, ...(narrow && {labelLimit: width / 3})},
      legend: {
        ...words, symbolBaseStrokeColor: ink, symbolBaseFillColor: soft,
        orient: "bottom", columns: narrow ? 1 : 4, gradientLength: Math.min(240, width / 2),
      },
      header: words,
      text: {color: ink},
      view: {stroke: "transparent"},
    };
  };
  const merged = (under, over) => {
    const found = {...under};
    for (const [name, value] of Object.entries(over)) {
      const both = value instanceof Object && found[name] instanceof Object;
      found[name] = both ? merged(found[name], value) : value;
    }
    return found;
  };

  // Tooltips show text as text: nothing of the data becomes markup.
  const tip = document.body.appendChild(element("div", undefined, "tip"));
  tip.hidden = true;
  const pairs = (found) => {
    const list = element("dl");
    for (const [name, value] of Object.entries(found)) list.append(element("dt", name), element("dd", String(value)));
    return list;
  };
  const tooltip = (handler, event, item, value) => {
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    tip.replaceChildren(value instanceof Object ? pairs(value) : element("span", String(value)));
    const {width, height} = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4))}px`;
  };

  // A chart that is wider than its place is made narrower. Once may not be enough: labels keep their size.
  const fit = async (box, view, spec) => {
    if (spec.width instanceof Object || "facet" in spec || "spec" in spec) return;
    for (let turn = 0; turn < 4; turn++) {
      const beyond = Math.ceil(box.querySelector("svg").getBoundingClientRect().width - box.clientWidth);
      if (beyond <= 0 || view.width() <= NARROWEST) return;
      await view.width(Math.max(NARROWEST, view.width() - beyond)).runAsync();
    }
  };

  const views = new Map();
  const draw = async (box) => {
    const {spec, datasets: names} = charts[box.dataset.chart];
    const sized = {...spec, config: merged(spec.config ?? {}, theme(box.clientWidth))};
    if (names.length) sized.datasets = Object.fromEntries(names.map((name) => [name, records(datasets[name])]));
    views.get(box)?.finalize();
    const drawn = await vegaEmbed(box, sized, {
      ast: true, actions: false, defaultStyle: false, renderer: "svg", tooltip, mode: "vega-lite", logLevel: ERRORS,
    });
    views.set(box, drawn);
    await fit(box, drawn.view, spec);
    return drawn.view;
  };
  const boxes = [...document.querySelectorAll("[data-chart]")];
  const drawAll = () => Promise.all(boxes.map(async (box) => {
    try {
      const view = await draw(box);
      if (box.id === "map-canvas") onMap(view);
    } catch (error) {
      box.replaceChildren(element("p", `This chart could not be drawn: ${error.message}`, "missing"));
      console.error(error);
    }
  }));

  // The map: hover shows a row; a click, the keys or the buttons keep it in the pane.
  const canvas = document.getElementById("map-canvas");
  const pane = document.getElementById("map-details");
  const ring = element("div", undefined, "ring");
  const points = (canvas && charts[canvas.dataset.chart].datasets
    .map((name) => records(datasets[name])).find((rows) => rows.length && "id" in rows[0])) || [];
  let map, chosen = -1;
  const place = () => {
    if (chosen < 0) return;
    const svg = canvas.querySelector("svg").getBoundingClientRect(), box = canvas.getBoundingClientRect();
    const [left, top] = map.origin(), point = points[chosen];
    ring.style.left = `${svg.left - box.left + canvas.scrollLeft + left + map.scale("x")(point.x)}px`;
    ring.style.top = `${svg.top - box.top + top + map.scale("y")(point.y)}px`;
    canvas.append(ring);
  };
  const choose = (index) => {
    chosen = (index + points.length) % points.length;
    const {x, y, shown, ...told} = points[chosen];
    pane.replaceChildren(pairs(Object.fromEntries(
      Object.entries(told).map(([name, value]) => [name.replace(/^score_/, ""), value ?? "-"]))));
    place();
  };
  const towards = (right, down) => {
    if (chosen < 0) return choose(points.length - 1);
    const from = points[chosen];
    const [x, y] = [map.scale("x"), map.scale("y")];
    let best = -1, least = Infinity;
    points.forEach((point, index) => {
      const [dx, dy] = [x(point.x) - x(from.x), y(point.y) - y(from.y)];
      const ahead = dx * right + dy * down, aside = Math.abs(dx * down) + Math.abs(dy * right);
      const far = ahead * ahead + 4 * aside * aside;
      if (ahead > 0 && aside <= ahead && far < least) [best, least] = [index, far];
    });
    if (best >= 0) choose(best);
  };
  const onMap = (view) => {
    map = view;
    view.addEventListener("click", (event, item) => {
      const row = item?.datum;
      const index = row ? points.findIndex((each) => each.id === row.id && each.x === row.x && each.y === row.y) : -1;
      if (index >= 0) choose(index);
    });
    place();
  };
  if (canvas) {
    const keys = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1]};
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in keys)) return;
      event.preventDefault();
      towards(...keys[event.key]);
    });
    // The kept rows come last, and are what one wants to see first.
    document.getElementById("map-next").addEventListener("click", () => choose(chosen < 0 ? points.length - 1 : chosen - 1));
    document.getElementById("map-previous").addEventListener("click", () => choose(chosen < 0 ? 0 : chosen + 1));
    document.getElementById("map-colour").addEventListener("change", async (event) => {
      canvas.dataset.chart = event.target.value;
      onMap(await draw(canvas));
    });
  }

  let width = innerWidth, waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; drawAll(); } }, 200);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of closed) each.open = false; });
  drawAll().then(() => { document.documentElement.dataset.drawn = "yes"; });
})();
