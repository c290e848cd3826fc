"use strict";

/* Draws the curves of a report, moves the border between pictures, and looks again while a run goes on. */

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 26;
const RELOAD_SECONDS = 20, QUIET_SECONDS = 8;
const kept = { smoothing: "0.6", scale: "automatic", opened: {}, sheets: {} };
let touched = 0;

function svg(tag, attributes, parent) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (parent) parent.append(made);
  return made;
}

function html(tag, className, text, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function words(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/* A running mean whose weights fall by `weight` a point, with what is missing before the first one made up. */
function smoothed(values, weight) {
  let sum = 0, weights = 0;
  return values.map((value) => {
    sum = sum * weight + value;
    weights = weights * weight + 1;
    return sum / weights;
  });
}

function niceTicks(low, high, count) {
  const span = high - low || 1, rough = span / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((each) => span / each <= count) || 10 * power;
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [], decades = Math.log10(high / low), steps = decades > 3 ? [1] : decades > 1 ? [1, 3] : [1, 2, 3, 5, 7];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    for (const k of steps) if (k * 10 ** e >= low * 0.999 && k * 10 ** e <= high * 1.001) ticks.push(k * 10 ** e);
  }
  return ticks;
}

/* Where the place is that is nearest to x; places rise. */
function nearest(places, x) {
  return places.reduce((best, place, k) => (Math.abs(place - x) < Math.abs(places[best] - x) ? k : best), 0);
}

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.data = JSON.parse(figure.querySelector("script").textContent);
    this.plot = figure.querySelector(".plot");
    this.at = null;
    this.readout = html("div", "readout", undefined, figure);
    this.readout.hidden = true;
    this.readout.setAttribute("aria-live", "polite");
    if (this.data.lines.length > 1 || this.data.lines[0].dashed) this.legend();
    this.xs = [...new Set(this.data.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerdown", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.leave());
    this.plot.addEventListener("blur", () => this.leave());
    this.plot.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  legend() {
    const list = html("ul", "legend", undefined, null);
    for (const line of this.data.lines) {
      const item = html("li", "swatch", undefined, list);
      const mark = html("i", `${this.colorOf(line)} ${line.dashed ? "dashed" : ""}`, undefined, item);
      mark.setAttribute("aria-hidden", "true");
      item.append(line.name);
    }
    this.figure.insertBefore(list, this.plot);
  }

  colorOf(line) { return line.color === null ? "beside" : `c${line.color % 8}`; }

  isLog() {
    const lowest = Math.min(...this.data.lines.flatMap((line) => line.y));
    if (this.data.labels.length || this.data.top !== null || lowest <= 0 || kept.scale === "linear") return false;
    return kept.scale === "logarithmic" || this.data.log;
  }

  draw() {
    const width = this.plot.clientWidth;
    if (!width) return;
    const { lines, labels, top } = this.data, log = this.isLog();
    const values = lines.flatMap((line) => line.y);
    let low = Math.min(...values), high = Math.max(...values);
    if (top !== null) [low, high] = [0, Math.max(top, high)];
    else if (labels.length) low = 0;
    if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
    if (!log && top === null) high += (high - low) * 0.04;
    let [first, last] = labels.length ? [-0.5, labels.length - 0.5] : [this.xs[0], this.xs[this.xs.length - 1]];
    if (first === last) [first, last] = [Math.min(0, first), Math.max(1, last)];
    const right = width - RIGHT, bottom = HEIGHT - BOTTOM;
    this.x = (value) => LEFT + (value - first) / (last - first) * (right - LEFT);
    this.y = log
      ? (value) => bottom - Math.log(value / low) / Math.log(high / low) * (bottom - TOP)
      : (value) => bottom - (value - low) / (high - low) * (bottom - TOP);
    const image = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    for (const tick of log ? logTicks(low, high) : niceTicks(low, high, 5)) {
      svg("line", { class: "grid", x1: LEFT, x2: right, y1: this.y(tick), y2: this.y(tick) }, image);
      svg("text", { class: "tick end", x: LEFT - 6, y: this.y(tick) + 4 }, image).textContent = words(tick);
    }
    this.drawBelow(image, width, first, last, bottom);
    this.shown = lines.map((line) => this.drawLine(image, line));
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: bottom, visibility: "hidden" }, image);
    this.dots = svg("g", {}, image);
    this.plot.replaceChildren(image);
    if (this.at !== null) this.show(this.at);
  }

  drawBelow(image, width, first, last, bottom) {
    const { labels } = this.data, narrow = (width - LEFT) / Math.max(labels.length, 1) < 52;
    const ticks = labels.length ? labels.map((_, k) => k) : niceTicks(first, last, Math.max(2, Math.floor(width / 90)));
    for (const tick of ticks) {
      if (!labels.length && tick !== Math.round(tick)) continue;
      const text = labels.length ? labels[tick].replace(narrow ? / m$|over / : /$^/, "") : words(tick);
      svg("text", { class: "tick middle", x: this.x(tick), y: bottom + 18 }, image).textContent = text;
    }
    svg("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: bottom, y2: bottom }, image);
  }

  drawLine(image, line) {
    const path = (values) => line.x.map((x, k) => `${k ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(values[k]).toFixed(1)}`).join("");
    const color = this.colorOf(line), weight = this.data.smooth ? Number(kept.smoothing) : 0;
    const values = weight && line.x.length > 2 ? smoothed(line.y, weight) : line.y;
    if (values !== line.y) svg("path", { class: `raw ${color}`, d: path(line.y) }, image);
    svg("path", { class: `curve ${color} ${line.dashed ? "dashed" : ""}`, d: path(values) }, image);
    if (line.x.length < 30 && !line.dashed) {
      const few = line.x.length < 4, look = few ? { r: 4.5, style: `fill: var(--${color})` } : { r: 2.5 };
      line.x.forEach((x, k) => svg("circle", { class: `mark ${color}`, cx: this.x(x), cy: this.y(values[k]), ...look }, image));
    }
    return values;
  }

  point(event) {
    const place = event.clientX - this.plot.getBoundingClientRect().left;
    let best = 0;
    this.xs.forEach((x, k) => { if (Math.abs(this.x(x) - place) < Math.abs(this.x(this.xs[best]) - place)) best = k; });
    this.show(best);
  }

  key(event) {
    const last = this.xs.length - 1, now = this.at === null ? last : this.at;
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.leave();
    if (next === undefined) return;
    event.preventDefault();
    this.show(this.at === null ? last : Math.min(Math.max(next, 0), last));
  }

  leave() {
    this.at = null;
    this.readout.hidden = true;
    this.cursor?.setAttribute("visibility", "hidden");
    this.dots?.replaceChildren();
  }

  show(at) {
    this.at = at;
    const x = this.xs[at], labels = this.data.labels;
    this.readout.replaceChildren();
    html("b", "", labels.length ? labels[x] : `step ${words(x)}`, this.readout);
    this.dots.replaceChildren();
    this.data.lines.forEach((line, k) => {
      const where = labels.length ? line.x.indexOf(x) : nearest(line.x, x);
      if (where < 0) return;
      const row = html("div", "", undefined, this.readout), value = this.shown[k][where];
      html("i", this.colorOf(line), undefined, row);
      if (this.data.lines.length > 1) html("span", "", line.name, row);
      html("b", "", words(value), row);
      if (value !== line.y[where]) html("small", "", `measured ${words(line.y[where])}`, row);
      if (!labels.length && !line.dashed && line.x[where] !== x) html("small", "", `at step ${words(line.x[where])}`, row);
      if (!line.dashed) svg("circle", { class: `dot ${this.colorOf(line)}`, cx: this.x(line.x[where]), cy: this.y(value), r: 4 }, this.dots);
    });
    this.cursor.setAttribute("visibility", "visible");
    this.cursor.setAttribute("x1", this.x(x));
    this.cursor.setAttribute("x2", this.x(x));
    this.readout.hidden = false;
    const space = this.figure.clientWidth - this.readout.offsetWidth - 4;
    const beside = this.x(x) + 14 > space ? this.x(x) - this.readout.offsetWidth - 6 : this.x(x) + 14;
    this.readout.style.left = `${Math.max(4, Math.min(beside, space))}px`;
    this.readout.style.top = `${this.plot.offsetTop + TOP}px`;
  }
}

/* Two steps of each panel, one over the other; right of the border is the later one. The last step stays the last. */
function compare(sheet, number) {
  const slider = sheet.querySelector(".wipe"), stacks = [...sheet.querySelectorAll(".stack.changes")];
  if (!slider) return;
  const [left, right] = ["left", "right"].map((side) => sheet.querySelector(`select.${side}`));
  const before = kept.sheets[number], newest = right.options[right.options.length - 1].value;
  if (before) {
    slider.value = before.border;
    for (const [select, step] of [[left, before.left], [right, before.right]]) {
      if (step === "newest") select.value = newest;
      else if ([...select.options].some((option) => option.value === step)) select.value = step;
    }
  }
  const keep = () => {
    const [from, to] = [left, right].map((select) => (select.value === newest ? "newest" : select.value));
    kept.sheets[number] = { border: slider.value, left: from, right: to };
    remember();
  };
  const move = () => sheet.style.setProperty("--wipe", `${slider.value}%`);
  const choose = () => stacks.forEach((stack) => {
    const images = [...stack.querySelectorAll("img")];
    /* Of a run without pictures of a step the ones before are shown, or its first. */
    const at = (step) => images.filter((image) => Number(image.dataset.step) <= Number(step)).at(-1) || images[0];
    const [under, over] = [at(left.value), at(right.value)];
    for (const image of images) {
      image.classList.toggle("under", image === under);
      image.classList.toggle("over", image === over);
    }
  });
  for (const stack of stacks) {
    html("i", "border", undefined, stack);
    const drag = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = stack.getBoundingClientRect();
      slider.value = Math.round(100 * (event.clientX - box.left) / box.width);
      move();
      keep();
    };
    stack.addEventListener("pointerdown", drag);
    stack.addEventListener("pointermove", drag);
  }
  slider.addEventListener("input", () => { move(); keep(); });
  [left, right].forEach((select) => select.addEventListener("change", () => { choose(); keep(); }));
  sheet.classList.add("ready");
  move();
  choose();
}

/* What the reader has set stays while the page is read again. */
function remember() {
  try { sessionStorage.setItem(location.pathname, JSON.stringify(kept)); } catch { /* there is no store for files */ }
}

function recall() {
  try { Object.assign(kept, JSON.parse(sessionStorage.getItem(location.pathname)) || {}); } catch { /* nor here */ }
}

function controls(charts) {
  const sliders = [...document.querySelectorAll(".smoothing")], scales = [...document.querySelectorAll("select.scale")];
  const update = () => {
    for (const slider of sliders) {
      slider.value = kept.smoothing;
      slider.nextElementSibling.textContent = Number(kept.smoothing).toFixed(2);
    }
    for (const scale of scales) scale.value = kept.scale;
    for (const chart of charts) chart.draw();
    remember();
  };
  sliders.forEach((slider) => slider.addEventListener("input", () => { kept.smoothing = slider.value; update(); }));
  scales.forEach((scale) => scale.addEventListener("change", () => { kept.scale = scale.value; update(); }));
  update();
}

/* What is folded away stays open where the reader has opened it; printing opens all, and keeps nothing. */
function fold(details) {
  const summary = details.querySelector("summary"), name = summary.textContent;
  details.open = Boolean(kept.opened[name]);
  summary.addEventListener("click", () => { kept.opened[name] = !details.open; remember(); });
}

function ago(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

function watch() {
  const written = new Date(document.querySelector("header time").dateTime), age = document.getElementById("age");
  const going = "running" in document.body.dataset, opened = Date.now();
  const tell = () => {
    const words = ` (${ago((Date.now() - written) / 1000)})`;
    age.textContent = going ? `${words}; this page looks again every ${RELOAD_SECONDS} s while the run goes on` : words;
    const idle = Date.now() - touched > 1000 * QUIET_SECONDS;
    if (going && idle && !document.hidden && Date.now() - opened > 1000 * RELOAD_SECONDS) location.reload();
  };
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel"]) {
    addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  }
  tell();
  setInterval(tell, 1000);
}

recall();
const charts = [...document.querySelectorAll("figure.chart")].map((figure) => new Chart(figure));
document.querySelectorAll(".sheet.compare").forEach(compare);
document.querySelectorAll("details").forEach(fold);
controls(charts);
watch();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
