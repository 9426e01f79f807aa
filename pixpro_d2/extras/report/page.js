"use strict";

const HEIGHT = 190, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 22; // of a chart, pixels
const PLAY_SECONDS = 8, FRAME_MS = 40;

function element(name, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

function format(value) {
  if (value === null) return "–";
  const size = Math.abs(value);
  if (size && (size < 0.001 || size >= 1e6)) return value.toExponential(1).replace("+", "");
  return size >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

/** Round numbers between two limits, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / step), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Powers of ten between two limits, with 2 and 5 times of them where these are few. */
function logTicks(low, high) {
  const factors = high / low < 100 ? [1, 2, 5] : [1];
  const powers = ticks(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)), 5).filter(Number.isInteger);
  return powers.flatMap((power) => factors.map((f) => f * 10 ** power)).filter((v) => v >= low && v <= high);
}

/** Path through points [iteration, value], interrupted where a value is null. */
function path(points, x, y) {
  let command = "M";
  return points.map(([iteration, value]) => {
    if (value === null) { command = "M"; return ""; }
    const part = `${command}${x(iteration).toFixed(1)} ${y(value).toFixed(1)}`;
    command = "L";
    return part;
  }).join("");
}

/** The last point up to an iteration, or the first one there is. */
function pointAt(points, iteration) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (points[middle][0] <= iteration) low = middle; else high = middle - 1;
  }
  return points[low];
}

class Chart {
  constructor(figure) {
    this.svg = figure.querySelector("svg");
    this.data = JSON.parse(figure.querySelector("script").textContent);
    this.length = Math.max(1, Number(figure.closest("[data-length]").dataset.length));
    const values = this.data.lines.flatMap((line) => line.points.map((point) => point[1])).filter((v) => v !== null);
    const references = this.data.references.map((reference) => reference.value);
    const known = values.length ? [...values, ...references] : [0, 1];
    this.low = known.reduce((a, b) => Math.min(a, b));
    this.high = known.reduce((a, b) => Math.max(a, b));
    this.log = false;

    const button = figure.querySelector("button");
    button.hidden = !(this.low > 0 && this.high > 4 * this.low);
    button.addEventListener("click", () => {
      this.log = !this.log;
      button.setAttribute("aria-pressed", this.log);
      this.draw();
    });
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", figure.getAttribute("aria-label"));
    this.readings = this.data.lines.map((line) => this.legend(figure.querySelector("ul"), line));
    this.svg.addEventListener("pointermove", (event) => preview(this.iterationAt(event)));
    this.svg.addEventListener("pointerleave", () => preview(now()));
    this.svg.addEventListener("click", (event) => setTime(this.iterationAt(event)));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  legend(list, line) {
    const item = document.createElement("li"), key = document.createElement("span");
    const name = document.createElement("span"), reading = document.createElement("b");
    key.className = `key ${colour(line)}`;
    name.textContent = name.title = line.name;
    if (line.name) item.append(key, name);
    item.append(reading);
    list.append(item);
    return reading;
  }

  iterationAt(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    return Math.round(Math.min(1, Math.max(0, share)) * this.length);
  }

  draw() {
    const width = this.svg.clientWidth;
    if (!width) return; // in closed details
    const scale = this.log ? Math.log10 : (value) => value;
    let low = scale(this.low), high = scale(this.high);
    if (low === high) high += Math.abs(high) || 1;
    const margin = (high - low) * 0.06;
    low -= margin;
    high += margin;
    this.x = (iteration) => LEFT + (iteration / this.length) * (width - LEFT - RIGHT);
    this.y = (value) => TOP + ((high - scale(value)) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    this.svg.replaceChildren();

    for (const value of this.log ? logTicks(10 ** low, 10 ** high) : ticks(low, high, 6)) {
      const y = this.y(value);
      this.svg.append(element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
      this.svg.append(element("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, format(value)));
    }
    const shown = ticks(0, this.length, Math.max(3, Math.round(width / 130)));
    for (const iteration of shown) {
      const anchor = iteration ? (this.x(iteration) > width - 30 ? "end" : "middle") : "start";
      const x = anchor === "end" ? width - RIGHT : this.x(iteration);
      this.svg.append(element("text", { x, y: HEIGHT - 4, "text-anchor": anchor }, format(iteration)));
    }
    for (const { value } of this.data.references) {
      const y = this.y(value);
      this.svg.append(element("line", { class: "reference", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
    }
    for (const line of this.data.lines) {
      this.svg.append(element("path", { class: `line ${colour(line)}`, d: path(line.points, this.x, this.y) }));
      if (line.points.length === 1) this.svg.append(this.dot(line, line.points[0]));
    }
    this.nameReferences(width - RIGHT);
    this.marks = element("g");
    this.svg.append(this.marks);
    this.show(now());
  }

  /** Write the references' names at their right ends, which is at x = `right`, further left where another is near. */
  nameReferences(right) {
    const placed = [];
    for (const { name, value } of this.data.references) {
      const line = this.y(value), y = line > TOP + 14 ? line - 4 : line + 13;
      const near = placed.filter((other) => Math.abs(other.y - y) < 14).map((other) => other.x);
      const text = element("text", { x: Math.min(right - 8, ...near), y, "text-anchor": "end" }, name);
      this.svg.append(text);
      placed.push({ y, x: text.getBBox().x - 10 });
    }
  }

  dot(line, [iteration, value]) {
    return element("circle", { class: `dot ${colour(line)}`, cx: this.x(iteration), cy: this.y(value ?? this.low), r: 4 });
  }

  /** Mark an iteration, and tell the values there. */
  show(iteration) {
    const found = this.data.lines.map((line) => pointAt(line.points, iteration));
    found.forEach(([, value], i) => (this.readings[i].textContent = format(value)));
    if (!this.marks) return;
    this.marks.replaceChildren();
    const x = this.x(Math.min(iteration, this.length));
    this.marks.append(element("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
    found.forEach((point, i) => {
      if (point[1] !== null) this.marks.append(this.dot(this.data.lines[i], point));
    });
  }
}

function colour(line) {
  return `c${line.colour % 8} dash${Math.floor(line.colour / 8) % 4}`;
}

class Film {
  constructor(figure) {
    this.images = [...figure.querySelectorAll("img")];
    this.points = this.images.map((image) => [Number(image.dataset.iteration), image]);
    this.output = figure.querySelector("output");
  }

  show(iteration) {
    const [drawn, shown] = pointAt(this.points, iteration);
    for (const image of this.images) image.hidden = image !== shown;
    this.output.textContent = drawn;
  }
}

function drawSpark(svg) {
  const points = JSON.parse(svg.dataset.points), values = points.map((p) => p[1]).filter((v) => v !== null);
  const low = Math.min(...values), high = Math.max(...values), last = points[points.length - 1][0];
  const x = (iteration) => (200 * iteration) / last, y = (value) => 66 - (62 * (value - low)) / (high - low || 1);
  const line = path(points, x, y);
  svg.append(element("path", { class: "area", d: `${line}L200 70L${x(points[0][0])} 70Z` }));
  svg.append(element("path", { class: "line", d: line, "vector-effect": "non-scaling-stroke" }));
}

// One time for the whole page: `moments` are the iterations that something is known of, the slider counts through them.
const charts = [], films = [...document.querySelectorAll(".film")].map((figure) => new Film(figure));
const timeline = document.querySelector(".timeline");
const [play, slider, output] = timeline.elements;
let moments = [0], playing = null;

function now() {
  return moments[slider.value];
}

/** Show an iteration in the curves only. */
function preview(iteration) {
  for (const chart of charts) chart.show(iteration);
}

/** Show an iteration everywhere. */
function setTime(iteration) {
  slider.value = moments.findLastIndex((moment) => moment <= iteration);
  output.textContent = `iteration ${now()}`;
  slider.setAttribute("aria-valuetext", output.textContent);
  preview(now());
  for (const film of films) film.show(now());
}

function stop() {
  clearInterval(playing);
  playing = null;
  play.textContent = "▶";
  play.setAttribute("aria-label", "Play");
}

function start() {
  const last = moments.length - 1, from = Number(slider.value) < last ? Number(slider.value) : 0;
  const begun = performance.now();
  play.textContent = "❚❚";
  play.setAttribute("aria-label", "Pause");
  playing = setInterval(() => {
    const seconds = (performance.now() - begun) / 1000;
    const index = Math.min(last, from + Math.floor((seconds / PLAY_SECONDS) * last));
    setTime(moments[index]);
    if (index === last) stop();
  }, FRAME_MS);
}

for (const figure of document.querySelectorAll(".chart")) charts.push(new Chart(figure));
for (const svg of document.querySelectorAll(".spark svg")) drawSpark(svg);
const known = charts.flatMap((chart) => chart.data.lines.flatMap((line) => line.points.map((point) => point[0])));
const drawn = films.flatMap((film) => film.points.map((point) => point[0]));
if (known.length + drawn.length) {
  moments = [...new Set([0, ...known, ...drawn])].sort((a, b) => a - b);
  slider.max = moments.length - 1;
  timeline.hidden = moments.length < 2;
  setTime(moments[moments.length - 1]);
}
timeline.addEventListener("submit", (event) => event.preventDefault());
slider.addEventListener("input", () => {
  stop();
  setTime(now());
});
play.addEventListener("click", () => (playing === null ? start() : stop()));
