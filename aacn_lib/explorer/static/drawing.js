// What both explorers share: elements, decoding, colours, canvases, and finding their place in the page.
// Names and labels are data: they reach the page as text (textContent, alt, aria-label), never as markup.

// Anchors of two colour tables that colour-blind readers can tell apart, from dark to bright and around zero.
const AMOUNTS = anchors(`00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c
  cdbb63 dec958 f0d846 fee838`);
const SIGNED = anchors(`053061 175290 2a71b2 3f8ec0 6bacd1 9bc9e0 c2ddec e0ecf3 f7f6f6 fbe5d8 fbccb4 f5aa89 e48066
  d05548 ba2832 930e26 67001f`);

function anchors(text) {
  const rgb = text.trim().split(/\s+/).map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const table = new Uint8ClampedArray(256 * 3);
  for (let code = 0; code < 256; code++) {
    const place = (code / 255) * (rgb.length - 1);
    const left = Math.min(Math.floor(place), rgb.length - 2);
    for (let c = 0; c < 3; c++) {
      table[3 * code + c] = rgb[left][c] + (place - left) * (rgb[left + 1][c] - rgb[left][c]);
    }
  }
  return table;
}

// element("button", { className: "x", onclick: f, "aria-label": text }, "text", child, …)
function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  // What has the focus keeps its keys: else an arrow would make JupyterLab move from cell to cell.
  if (node.tabIndex >= 0) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children);
  return node;
}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

const floatsOf = (base64) => (base64 === null ? null : new Float32Array(bytesOf(base64)));

// One Float32Array a head, N · depth numbers each.
function dequantised({ codes, scale }) {
  const all = new Int16Array(bytesOf(codes));
  const length = all.length / scale.length;
  return scale.map((step, head) => Float32Array.from(all.subarray(head * length, (head + 1) * length),
    (code) => code * step));
}

function dot(a, atA, b, atB, depth) {
  let sum = 0;
  for (let c = 0; c < depth; c++) sum += a[atA + c] * b[atB + c];
  return sum;
}

// The position logits of one query on a map of H×W pixels:
// (q · relH[jy - iy + H - 1] + q · relW[jx - ix + W - 1]) / √d.
function positionLogits(q, at, place, [H, W], depth, relH, relW) {
  const root = Math.sqrt(depth);
  const row = Math.floor(place / W);
  const column = place % W;
  const overRows = Array.from({ length: H }, (_, y) => dot(q, at, relH, (y - row + H - 1) * depth, depth) / root);
  const overColumns = Array.from({ length: W }, (_, x) => dot(q, at, relW, (x - column + W - 1) * depth, depth) / root);
  const logits = new Float32Array(H * W);
  for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) logits[y * W + x] = overRows[y] + overColumns[x];
  return logits;
}

// One pixel of the canvas a value; CSS makes them large. With an opacity, for a map that lies over a picture, small
// values let the picture through: what counts little stays to be seen, what counts most is covered by that much.
function paint(canvas, rows, columns, values, [low, high], colours, opacity = null) {
  if (canvas.width !== columns || canvas.height !== rows) Object.assign(canvas, { width: columns, height: rows });
  const context = canvas.getContext("2d", { willReadFrequently: true }); // pixels are written, nothing is drawn: no GPU
  const image = context.createImageData(columns, rows);
  const factor = high > low ? 255 / (high - low) : 0;
  for (let i = 0; i < rows * columns; i++) {
    const code = Math.max(0, Math.min(255, Math.round((values[i] - low) * factor)));
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = colours[3 * code + c];
    const size = colours === SIGNED ? Math.abs(code / 127.5 - 1) : code / 255;
    image.data[4 * i + 3] = 255 * (opacity === null ? 1 : opacity * Math.sqrt(size));
  }
  context.putImageData(image, 0, 0);
}

function largestSize(arrays) {
  let largest = 0;
  for (const array of arrays) for (const value of array) largest = Math.max(largest, Math.abs(value));
  return largest;
}

// A vertical bar of colours with its numbers; set([low, high], colours, unit) changes it.
function makeScale() {
  const bar = element("canvas", { className: "aacn-bar" });
  const top = element("span"), middle = element("span"), bottom = element("span");
  const node = element("div", { className: "aacn-scale", "aria-hidden": "true" }, bar,
    element("div", { className: "aacn-ticks" }, top, middle, bottom));
  const ramp = Float32Array.from({ length: 256 }, (_, i) => 255 - i);
  let colours = null;
  return {
    node,
    set([low, high], newColours, write) {
      if (newColours !== colours) paint(bar, 256, 1, ramp, [0, 255], newColours);
      colours = newColours;
      [top.textContent, middle.textContent, bottom.textContent] = [high, (low + high) / 2, low].map(write);
    },
  };
}

const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 2 : 1)} %`;
const signed = (x) => (x <= -0.005 ? "−" : x >= 0.005 ? "+" : "") + Math.abs(x).toFixed(2);

// A box that tells which cell of an H×W grid is meant: by mouse, finger and keyboard. `on` has size(), query(),
// choose(row, column), pin(), unpin(). A plain move chooses, a click or tap pins, Escape lets go. With `reads` moves
// choose whether pinned or not.
function makeGrid(on, children, properties = {}) {
  const marker = element("div", { className: "aacn-query" });
  const grid = element("div", { className: "aacn-grid", ...properties }, ...children, marker);
  const cellAt = (event) => {
    const box = grid.getBoundingClientRect();
    const [H, W] = on.size();
    const inside = (share, count) => Math.max(0, Math.min(count - 1, Math.floor(share * count)));
    return [inside((event.clientY - box.top) / box.height, H), inside((event.clientX - box.left) / box.width, W)];
  };
  grid.addEventListener("pointermove", (event) => {
    if (on.reads || !on.pinned() || event.buttons & 1) on.choose(...cellAt(event));
  });
  let pressed = null; // the pinned query's own cell, when the button went down on it
  const isQuery = (cell) => cell.every((place, axis) => place === on.query()[axis]);
  grid.addEventListener("pointerdown", (event) => {
    pressed = on.pinned() && isQuery(cellAt(event)) ? cellAt(event).join() : null;
  });
  grid.addEventListener("click", (event) => {
    if (pressed === cellAt(event).join()) on.unpin();
    else on.pin(...cellAt(event));
    pressed = null;
  });
  const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = on.query();
    if (event.key in STEPS) {
      const [H, W] = on.size();
      const [down, right] = STEPS[event.key];
      on.choose(Math.max(0, Math.min(H - 1, row + down)), Math.max(0, Math.min(W - 1, column + right)), true);
    } else if (event.key === "Enter" || event.key === " ") {
      if (on.pinned()) on.unpin();
      else on.pin(row, column);
    } else if (event.key === "Escape") on.unpin();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return {
    node: grid,
    mark() {
      const [H, W] = on.size();
      const [row, column] = on.query();
      const shares = { top: row / H, left: column / W, height: 1 / H, width: 1 / W };
      for (const [side, share] of Object.entries(shares)) marker.style[side] = `${100 * share}%`;
      marker.classList.toggle("aacn-pinned", on.pinned());
    },
  };
}

// Find the place of this output and build the page there. JupyterLab may run the script before the output is attached.
function mount(build, triesLeft = 100) {
  const here = document.currentScript && document.currentScript.closest(".aacn-explorer");
  const places = [...document.querySelectorAll('[data-explorer="EXPLORER_ID"]:not([data-ready])')];
  if (here && !here.dataset.ready && !places.includes(here)) places.push(here);
  for (const root of places) {
    root.dataset.ready = "yes";
    const data = JSON.parse(root.querySelector(".aacn-data").textContent);
    const still = root.querySelector(".aacn-still");
    root.explorer = build(root, data);
    if (still) still.remove();
  }
  if (places.length === 0 && triesLeft > 0) setTimeout(() => mount(build, triesLeft - 1), 100);
}
