"use strict";
/* What moves on the page: volumes in four dimensions, and the curves that go with them. Needs THREE for surfaces. */

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = { frame: 0, axis: 0, slice: 0, level: data.level, cut: false, playing: false };
const followers = []; // what is drawn again when the state changes

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function told(number, digits = 3) {
  return Number(number.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits, useGrouping: false });
}

function nearest(times, time) {
  let best = 0;
  times.forEach((t, i) => { if (Math.abs(t - time) < Math.abs(times[best] - time)) best = i; });
  return best;
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; followers.forEach((draw) => draw()); });
}

function set(changes) { Object.assign(state, changes); redraw(); }

/* ---- volumes: base64 of gzip of the differences from one time to the next ---- */

const decoded = new Map();

function volumesOf(movie) {
  if (!decoded.has(movie.id)) decoded.set(movie.id, unpacked(movie));
  return decoded.get(movie.id);
}

async function unpacked(movie) {
  const packed = Uint8Array.from(atob($(movie.id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const voxels = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = voxels.length / movie.times.length;
  for (let i = size; i < voxels.length; i++) voxels[i] += voxels[i - size];
  return voxels;
}

class Panel {
  constructor(shown) {
    this.movie = data.movies[shown];
    this.voxels = null;
    const choices = data.movies.map((m, i) => element("option", { value: i, textContent: m.label, selected: i === shown }));
    this.choice = element("select", { ariaLabel: "What is shown" }, ...choices);
    this.space = element("div", { className: "space" });
    this.plane = element("canvas", { className: "plane" });
    this.at = element("p", { className: "at" });
    this.bar = element("div", { className: "bar" });
    this.box = element("div", { className: "panel" }, this.choice, this.space, this.plane, this.bar, this.at);
    this.choice.addEventListener("change", () => { this.movie = data.movies[this.choice.value]; this.load(); });
  }

  load() {
    const movie = this.movie;
    this.box.classList.toggle("ours", movie.ours);
    this.voxels = null;
    return volumesOf(movie).then((voxels) => { if (movie === this.movie) { this.voxels = voxels; redraw(); } });
  }

  get time() { return nearest(this.movie.times, data.times[state.frame]); }

  /* The volume at the moment that is shown, as a part of all voxels. */
  volume() {
    const size = this.movie.shape.reduce((a, b) => a * b);
    return this.voxels.subarray(this.time * size, (this.time + 1) * size);
  }

  drawPlane() {
    if (!this.voxels) return;
    const grey = this.movie.vmax / data.white;
    paint(this.plane, sliceOf(this.volume(), this.movie.shape), grey);
    const [rows, columns] = planeShape(this.movie.shape);
    const apart = Math.abs(this.movie.times[this.time] - data.times[state.frame]) > 1e-9;
    const words = this.movie.times.length === 1 ? "one volume for all times" : apart ? `nearest volume: ${told(this.movie.times[this.time], 4)} s` : "";
    const scale = scaleBar(columns);
    this.bar.style.width = `${(100 * scale.voxels) / columns}%`;
    this.at.textContent = words ? `${scale.words} · ${words}` : scale.words;
  }
}

function planeShape([z, y, x]) { return [[y, x], [z, x], [z, y]][state.axis]; }

/* The slice at the moment, as {rows, columns, values}; z runs upwards where it is shown. */
function sliceOf(volume, shape) {
  const [z, y, x] = shape, [rows, columns] = planeShape(shape);
  const place = Math.round(state.slice * (shape[state.axis] - 1));
  const start = [place * y * x, place * x, place][state.axis];
  const [down, across] = [[x, 1], [y * x, 1], [y * x, x]][state.axis];
  const values = new Uint8Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    const row = state.axis === 0 ? r : rows - 1 - r;
    for (let c = 0; c < columns; c++) values[row * columns + c] = volume[start + r * down + c * across];
  }
  return { rows, columns, values };
}

function paint(canvas, { rows, columns, values }, grey) {
  if (canvas.width !== columns || canvas.height !== rows) { canvas.width = columns; canvas.height = rows; }
  const context = canvas.getContext("2d"), picture = context.createImageData(columns, rows);
  for (let i = 0; i < values.length; i++) {
    const v = Math.min(255, values[i] * grey);
    picture.data[4 * i] = picture.data[4 * i + 1] = picture.data[4 * i + 2] = v;
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

/* A length of 1, 2 or 5 times a power of ten, about a quarter of so many voxels. */
function scaleBar(columns) {
  const unit = data.voxel_nm || data.binned, wanted = (columns * unit) / 4, power = 10 ** Math.floor(Math.log10(wanted));
  const length = [5, 2, 1].find((n) => n * power <= wanted) * power;
  return { voxels: length / unit, words: `${told(length)} ${data.voxel_nm ? "nm" : "voxels"}` };
}

/* ---- surfaces: rays through a 3D texture ---- */

const VERTEX = `
out vec3 place;
void main() { place = position + 0.5; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }`;

const BLOCK = 4; // voxels along an edge

const FRAGMENT = `
#define BLOCK ${BLOCK}.0
precision highp float;
precision highp sampler3D;
uniform sampler3D volume, most; // most: the largest value in each block of voxels
uniform vec3 ahead;     // along the ray, in the texture, for a voxel
uniform vec3 voxel;     // its size in the texture
uniform vec3 low, high; // what is not cut away
uniform float level, grey;
uniform mat3 turned;    // from the texture to what is seen
in vec3 place;
out vec4 colour;

float at(vec3 p) { return texture(volume, p).r; }

vec3 shaded(vec3 p) {
  vec3 s = 1.2 * voxel;
  vec3 slope = vec3(at(p + vec3(s.x, 0, 0)) - at(p - vec3(s.x, 0, 0)),
                    at(p + vec3(0, s.y, 0)) - at(p - vec3(0, s.y, 0)),
                    at(p + vec3(0, 0, s.z)) - at(p - vec3(0, 0, s.z)));
  vec3 normal = normalize(turned * -slope + vec3(0, 0, 1e-6));
  float key = max(dot(normal, normalize(vec3(-0.45, 0.7, 0.6))), 0.0);
  float fill = max(dot(normal, normalize(vec3(0.6, -0.1, 0.7))), 0.0);
  float rim = pow(1.0 - abs(normal.z), 3.0);
  return vec3(0.2 + 0.62 * key + 0.2 * fill - 0.1 * rim) * vec3(1.0, 0.99, 0.975);
}

void main() {
  vec3 one = (low - place) / ahead, other = (high - place) / ahead;
  vec3 near = min(one, other), far = max(one, other);
  float t = max(max(near.x, near.y), near.z), end = min(min(far.x, far.y), far.z);
  if (t >= end) discard;
  float value = at(place + t * ahead);
  if (value > level) { colour = vec4(vec3(min(value * grey, 1.0)), 1.0); return; }
  vec3 cells = 1.0 / (voxel * BLOCK);
  float before = t;
  for (int i = 0; i < 900 && t < end; i++) {
    vec3 p = place + t * ahead, cell = floor(p * cells);
    if (texelFetch(most, ivec3(cell), 0).r <= level) { // nothing in this block: on to its end
      vec3 out_ = ((cell + step(vec3(0.0), ahead)) / cells - p) / ahead;
      t += max(min(min(out_.x, out_.y), out_.z), 0.0) + 0.02;
      before = t;
      continue;
    }
    if (at(p) > level) {
      float a = before, b = t;
      for (int k = 0; k < 6; k++) { float m = 0.5 * (a + b); if (at(place + m * ahead) > level) b = m; else a = m; }
      colour = vec4(shaded(place + b * ahead), 1.0);
      return;
    }
    before = t;
    t += 0.6;
  }
  discard;
}`;

class Surfaces {
  constructor(panels) {
    this.panels = panels;
    this.renderer = new THREE.WebGLRenderer({ canvas: $("surfaces"), alpha: true, antialias: true, preserveDrawingBuffer: true });
    this.renderer.setScissorTest(true);
    this.renderer.setClearColor(0, 0);
    this.camera = new THREE.OrthographicCamera(-1, 1, 1, -1, 0.1, 10);
    this.camera.position.set(1.1, 1.0, 2.6);
    this.camera.zoom = data.zoom;
    this.uniforms = {
      volume: { value: null }, most: { value: null }, ahead: { value: new THREE.Vector3() }, voxel: { value: new THREE.Vector3() },
      low: { value: new THREE.Vector3() }, high: { value: new THREE.Vector3() }, level: { value: 0 }, grey: { value: 1 },
      turned: { value: new THREE.Matrix3() },
    };
    const material = new THREE.ShaderMaterial({ glslVersion: THREE.GLSL3, vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms: this.uniforms });
    const geometry = new THREE.BoxGeometry(1, 1, 1);
    this.box = new THREE.Mesh(geometry, material);
    this.edges = new THREE.LineSegments(new THREE.EdgesGeometry(geometry), new THREE.LineBasicMaterial({ color: 0x8a939b, transparent: true, opacity: 0.35, depthWrite: false }));
    for (const one of [this.box, this.edges]) { one.matrixAutoUpdate = false; }
    this.scene = new THREE.Scene();
    this.scene.add(this.box, this.edges);
    this.controls = panels.map((panel) => this.handle(panel.space));
  }

  handle(space) {
    const controls = new THREE.OrbitControls(this.camera, space);
    controls.enablePan = false;
    controls.addEventListener("change", redraw);
    space.style.touchAction = "pan-y"; // a finger that moves up or down scrolls the page
    space.addEventListener("wheel", (event) => { if (!event.ctrlKey) event.stopImmediatePropagation(); }, { capture: true });
    return controls;
  }

  draw() {
    const canvas = this.renderer.domElement, around = canvas.getBoundingClientRect();
    const ratio = Math.min(1.5 * (window.devicePixelRatio || 1), 2); // smooth outlines
    if (this.ratio !== ratio || this.width !== around.width || this.height !== around.height) {
      Object.assign(this, { ratio, width: around.width, height: around.height });
      this.renderer.setPixelRatio(ratio);
      this.renderer.setSize(around.width, around.height, false);
    }
    this.renderer.setScissor(0, 0, around.width, around.height);
    this.renderer.clear();
    for (const panel of this.panels) if (panel.voxels) this.drawPanel(panel, around);
  }

  drawPanel(panel, around) {
    const place = panel.space.getBoundingClientRect();
    const view = [place.left - around.left, around.bottom - place.bottom, place.width, place.height];
    this.renderer.setViewport(...view);
    this.renderer.setScissor(...view);
    this.place(panel);
    this.renderer.render(this.scene, this.camera);
  }

  /* The volume in the world: x to the right, z (the tilt axis) upwards, y (the beam) away; its longest edge is 1. */
  place(panel) {
    const [z, y, x] = panel.movie.shape, longest = Math.max(x, y, z), u = this.uniforms;
    const [a, b, c] = [x / longest, y / longest, z / longest];
    const size = 0.46 * Math.hypot(a, b, c);
    Object.assign(this.camera, { left: -size, right: size, top: size, bottom: -size });
    this.camera.updateProjectionMatrix();
    this.camera.updateMatrixWorld();
    const world = this.box.matrix.set(a, 0, 0, 0, 0, 0, c, 0, 0, -b, 0, 0, 0, 0, 0, 1);
    this.edges.matrix.copy(world);
    const forward = this.camera.getWorldDirection(new THREE.Vector3());
    u.ahead.value.set(forward.x / a, -forward.z / b, forward.y / c).divideScalar(longest).addScalar(1e-9);
    u.voxel.value.set(1 / x, 1 / y, 1 / z);
    u.turned.value.setFromMatrix4(this.camera.matrixWorldInverse.clone().multiply(turnedOnly()));
    u.level.value = (state.level * data.white) / panel.movie.vmax;
    u.grey.value = panel.movie.vmax / data.white;
    this.cut();
    this.fill(panel);
    Object.assign(u.volume, { value: panel.texture });
    Object.assign(u.most, { value: panel.most });
  }

  /* What is cut away is on the side of whoever looks. */
  cut() {
    const { low, high, ahead } = this.uniforms;
    low.value.set(0, 0, 0);
    high.value.set(1, 1, 1);
    if (!state.cut) return;
    const along = 2 - state.axis;
    const end = ahead.value.getComponent(along) < 0 ? high : low;
    end.value.setComponent(along, state.slice);
  }

  /* The textures of what a panel shows, filled where that has changed. */
  fill(panel) {
    const volume = panel.volume(), name = `${panel.movie.id} ${panel.time}`;
    if (panel.shown === name) return;
    panel.shown = name;
    panel.texture = filled(panel.texture, volume, panel.movie.shape, THREE.LinearFilter);
    panel.most = filled(panel.most, ...mostOf(volume, panel.movie.shape), THREE.NearestFilter);
  }
}

function filled(texture, values, [z, y, x], filter) {
  const old = texture?.image;
  if (!old || old.width !== x || old.height !== y || old.depth !== z) {
    texture?.dispose();
    texture = new THREE.Data3DTexture(values, x, y, z);
    Object.assign(texture, { format: THREE.RedFormat, minFilter: filter, magFilter: filter, unpackAlignment: 1 });
  }
  texture.image.data = values;
  texture.needsUpdate = true;
  return texture;
}

/* The largest value in each block and one voxel around it, which count where it is interpolated; and their shape. */
function mostOf(volume, shape) {
  const cells = shape.map((n) => Math.ceil(n / BLOCK)), most = new Uint8Array(cells.reduce((a, b) => a * b));
  const spans = shape.map((n) => Array.from({ length: n }, (_, i) => {
    const all = [(i - 1) / BLOCK, i / BLOCK, (i + 1) / BLOCK].map(Math.floor);
    return [...new Set(all)].filter((c) => c >= 0 && c < Math.ceil(n / BLOCK));
  }));
  let i = 0;
  for (const k of spans[0]) for (const j of spans[1]) for (const l of spans[2]) {
    const value = volume[i++];
    if (value === 0) continue;
    for (const a of k) for (const b of j) for (const c of l) {
      const at = (a * cells[1] + b) * cells[2] + c;
      if (most[at] < value) most[at] = value;
    }
  }
  return [most, cells];
}

/* From the axes of the texture (x, y, z) to those of the world, without any scale: for normals. */
function turnedOnly() { return new THREE.Matrix4().set(1, 0, 0, 0, 0, 0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1); }

/* ---- images: measured, as the volumes predict them, and what is left ---- */

function showImages() {
  if (!data.images) return;
  const pair = [data.images.measured, data.images.predicted];
  const canvases = ["measured image", "image of the volume", "difference, from black −20 % to white +20 %"].map((words) => {
    const canvas = element("canvas", { className: "plane" });
    const line = element("p", { textContent: words });
    $("images").append(element("div", {}, line, canvas));
    return { canvas, line, words };
  });
  $("images").hidden = false;
  Promise.all(pair.map(volumesOf)).then((both) => {
    const [z, s] = pair[0].shape, size = z * s, white = Math.max(pair[0].vmax, pair[1].vmax);
    followers.push(() => {
      const t = nearest(pair[0].times, data.times[state.frame]);
      const [measured, predicted] = both.map((v) => v.subarray(t * size, (t + 1) * size));
      const left = Float32Array.from(measured, (v, i) => 127.5 + (5 * 127.5 / 255) * ((v * pair[0].vmax - predicted[i] * pair[1].vmax) / white));
      const upwards = (v) => { const w = v.slice(); for (let r = 0; r < z; r++) w.set(v.subarray(r * s, (r + 1) * s), (z - 1 - r) * s); return w; };
      [[measured, pair[0].vmax / white], [predicted, pair[1].vmax / white], [left, 1]].forEach(([values, grey], i) => paint(canvases[i].canvas, { rows: z, columns: s, values: upwards(values) }, grey));
      canvases[0].line.textContent = data.unseen.includes(t) ? "measured image, not fitted" : "measured image";
    });
    redraw();
  });
}

/* ---- curves ---- */

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  if (text) made.textContent = text;
  return made;
}

function ticks(low, high, most) {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power, found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

class Chart {
  constructor(chart) {
    this.chart = chart;
    this.picture = svg("svg", { role: "img", "aria-label": `${chart.title} against time` });
    const lines = chart.lines.map((line) => {
      const sample = svg("svg", { viewBox: "0 0 22 8" });
      sample.append(this.stroke(line, "M0 4H22"));
      return element("li", {}, sample, line.label);
    });
    this.box = element("div", { className: "chart" }, element("h3", { textContent: chart.title }), this.picture, element("ul", { className: "legend" }, ...lines));
    this.picture.addEventListener("pointerdown", (event) => { this.pick(event); this.picture.setPointerCapture(event.pointerId); });
    this.picture.addEventListener("pointermove", (event) => { if (event.buttons) this.pick(event); });
    this.now = svg("line", { class: "now" });
  }

  stroke(line, d) {
    const path = svg("path", { d, class: line.ours ? "line ours" : "line", "stroke-width": line.ours ? 2 : 1.4, "stroke-dasharray": line.dash || "none" });
    path.style.setProperty("--c", line.colour);
    return path;
  }

  pick(event) {
    const time = this.low + ((event.clientX - this.picture.getBoundingClientRect().left - this.left) / this.across) * (this.high - this.low);
    set({ frame: nearest(data.times, time), playing: false });
  }

  layout() {
    const width = this.picture.clientWidth, height = 190, values = [];
    for (const line of this.chart.lines) for (const [, v, e] of line.points) values.push(v - (e || 0), v + (e || 0));
    let [bottom, top] = [Math.min(...values), Math.max(...values)];
    const room = (top - bottom || Math.abs(top) * 0.1 || 1) * 0.06;
    [bottom, top] = [bottom - room, top + room];
    [this.low, this.high] = [data.times[0], data.times[data.times.length - 1]];
    if (this.low === this.high) this.high += 1;
    const marks = ticks(bottom, top, 4), digits = (v) => told(v, 4);
    this.left = 8 + 7 * Math.max(...marks.map((v) => digits(v).length));
    Object.assign(this, { across: width - this.left - 10, down: height - 34 });
    const x = (t) => this.left + ((t - this.low) / (this.high - this.low)) * this.across;
    const y = (v) => 6 + ((top - v) / (top - bottom)) * this.down;
    this.x = x;
    this.picture.replaceChildren();
    for (const v of marks) {
      this.picture.append(svg("line", { class: "grid", x1: this.left, x2: width - 10, y1: y(v), y2: y(v) }));
      this.picture.append(svg("text", { x: this.left - 6, y: y(v) + 4, "text-anchor": "end" }, digits(v)));
    }
    const moments = ticks(this.low, this.high, 5);
    moments.forEach((t, i) => this.picture.append(svg("text", { x: x(t), y: height - 8, "text-anchor": x(t) > width - 30 ? "end" : "middle" }, told(t, 4) + (i === moments.length - 1 ? " s" : ""))));
    for (const line of this.chart.lines) this.drawLine(line, x, y);
    this.picture.append(this.now);
  }

  drawLine(line, x, y) {
    const there = line.points, path = (points) => points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
    if (there.length && there[0].length > 2) {
      const above = there.map(([t, v, e]) => [x(t), y(v + e)]), below = there.map(([t, v, e]) => [x(t), y(v - e)]).reverse();
      const band = svg("path", { d: `${path([...above, ...below])}Z`, class: line.ours ? "band ours" : "band" });
      band.style.setProperty("--c", line.colour);
      this.picture.append(band);
    }
    if (line.dots) {
      for (const [t, v] of there) {
        const dot = svg("circle", { cx: x(t), cy: y(v), r: 1.7, class: line.ours ? "dot ours" : "dot" });
        dot.style.setProperty("--c", line.colour);
        this.picture.append(dot);
      }
    } else this.picture.append(this.stroke(line, path(there.map(([t, v]) => [x(t), y(v)]))));
  }

  draw() {
    const at = this.x(data.times[state.frame]);
    Object.entries({ x1: at, x2: at, y1: 2, y2: 8 + this.down }).forEach(([key, value]) => this.now.setAttribute(key, value));
  }
}

/* ---- all together ---- */

function showCurves() {
  if (!data.charts.length) return;
  $("curves").hidden = false;
  const charts = data.charts.map((chart) => new Chart(chart));
  $("charts").append(...charts.map((chart) => chart.box));
  const layout = () => { charts.forEach((chart) => chart.layout()); redraw(); };
  layout();
  window.addEventListener("resize", layout);
  followers.push(() => charts.forEach((chart) => chart.draw()));
}

function surfacesOf(panels) {
  try {
    if (location.hash === "#2d" || !document.createElement("canvas").getContext("webgl2")) return null;
    return new Surfaces(panels);
  } catch { return null; }
}

function showVolumes() {
  $("viewer").hidden = false;
  const panels = data.panels.map((shown) => new Panel(shown));
  $("panels").append(...panels.map((panel) => panel.box));
  const surfaces = surfacesOf(panels);
  if (surfaces) {
    followers.push(() => surfaces.draw());
    new ResizeObserver(redraw).observe($("panels"));
  } else {
    $("viewer").classList.add("flat");
    $("level-label").hidden = $("cut-label").hidden = true;
    $("hint").textContent = "Slices only: this browser draws no surfaces (it has no WebGL2).";
  }
  followers.push(() => panels.forEach((panel) => panel.drawPlane()));
  panels.forEach((panel) => panel.load());
  showImages();
}

function connect() {
  const last = data.times.length - 1, shape = () => data.movies[data.panels[0]].shape;
  $("time").max = last;
  $("level").value = 100 * state.level;
  const places = () => { const n = shape()[state.axis]; $("slice").max = n - 1; $("slice").value = Math.round(state.slice * (n - 1)); };
  const at = () => ({ slice: Number($("slice").value) / Math.max(1, Number($("slice").max)) });
  $("time").addEventListener("input", () => set({ frame: Number($("time").value), playing: false }));
  $("level").addEventListener("input", () => set({ level: Number($("level").value) / 100 }));
  $("slice").addEventListener("input", () => set(at()));
  $("axis").addEventListener("change", () => { set({ axis: Number($("axis").value), slice: 0.5 }); places(); });
  $("cut").addEventListener("change", () => set({ cut: $("cut").checked }));
  $("play").addEventListener("click", () => { set({ playing: !state.playing, frame: state.frame >= last ? 0 : state.frame }); play(); });
  state.slice = data.slice;
  places();
  followers.push(() => {
    $("time").value = state.frame;
    $("time-told").textContent = `${told(data.times[state.frame], 5)} s (image ${state.frame + 1} of ${last + 1})`;
    $("level-told").textContent = `${told(state.level * data.white)} (${told(100 * state.level)} % of white)`;
    $("slice-told").textContent = `${["z", "y", "x"][state.axis]} = ${Number($("slice").value) * data.binned}`;
    $("play").textContent = state.playing ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  });
}

const PER_SECOND = 12;
function play() {
  const began = performance.now(), from = state.frame, last = data.times.length - 1;
  const step = (now) => {
    if (!state.playing) return;
    const passed = Math.max(0, now - began) / 1000; // a picture may have begun before the click
    const frame = Math.min(last, from + Math.floor(passed * PER_SECOND));
    if (frame !== state.frame || frame === last) set({ frame, playing: frame < last });
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function copyButtons() {
  for (const box of document.querySelectorAll(".copied")) {
    const button = element("button", { type: "button", textContent: "Copy" });
    button.addEventListener("click", () => {
      const range = document.createRange();
      range.selectNodeContents(box.querySelector("pre"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy"); // works from file://, where the clipboard of navigator may not
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    box.append(button);
  }
}

if (data.movies.length) { connect(); showVolumes(); }
if (data.times.length > 1) showCurves();
copyButtons();
redraw();
