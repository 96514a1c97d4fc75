// The receptive-field explorer. The data: pictureSize [H, W]; pictures [{source, label}]; layers [{name, size [H, W],
// field, step, start}]; notes. What an output at (row, column) of a layer's map depends on is the square of `field`
// pixels a side whose first pixel is start + step · row, start + step · column; beyond the picture it is padding.
//
// For tests and curious readers, on the element .aacn-explorer:
//   explorer.read() → {layer, picture, query, size, pinned, top, left, field, padding};
//   explorer.choose({layer, picture, row, column, pinned}) changes what is given. Layers and pictures are numbered.

function buildFields(root, data) {
  const [H, W] = data.pictureSize;
  const state = { layer: data.layers.length - 1, picture: 0, row: 0, column: 0, pinned: false };
  const layer = () => data.layers[state.layer];
  [state.row, state.column] = layer().size.map((count) => Math.floor(count / 2));
  let drawn = null;

  const on = {
    size: () => layer().size,
    query: () => [state.row, state.column],
    pinned: () => state.pinned,
    choose: (row, column, say = false) => {
      if (row !== state.row || column !== state.column) choose({ row, column }, say);
    },
    pin: (row, column) => choose({ row, column, pinned: true }),
    unpin: () => choose({ pinned: false }),
  };
  const picture = element("img", { className: "aacn-picture", draggable: false });
  const frame = element("div", { className: "aacn-field" });
  const cut = element("div", { className: "aacn-clip" }, frame);
  const grid = makeGrid(on, [picture, cut], { tabIndex: 0, role: "application" });
  grid.node.style.aspectRatio = `${W} / ${H}`;
  const seen = element("canvas", { className: "aacn-map" });
  const readout = element("p", { className: "aacn-readout" });
  const caption = element("figcaption");
  const status = element("div", { className: "aacn-hidden", role: "status", "aria-live": "polite" });
  const layerSelect = element("select", { "aria-label": "layer",
    onchange: () => choose({ layer: Number(layerSelect.value) }) },
    ...data.layers.map(({ name, field }, number) =>
      element("option", { value: number }, `after ${name}: sees ${field}×${field}`)));
  const buttons = data.pictures.map((one, number) =>
    element("button", { type: "button", className: "aacn-thumb", "aria-label": nameOf(number), title: nameOf(number),
      onclick: () => choose({ picture: number }) }, element("img", { src: one.source, alt: "" })));

  function nameOf(number) {
    const { label } = data.pictures[number];
    return label === null ? `picture ${number + 1}` : `picture ${number + 1}: ${label}`;
  }

  function choose(wanted, say = true) {
    const before = layer().size;
    Object.assign(state, wanted);
    if (wanted.layer !== undefined && wanted.row === undefined) {
      // The same place of the picture, on a map of another size.
      const after = layer().size;
      [state.row, state.column] = [state.row, state.column].map((place, axis) =>
        Math.floor(((place + 0.5) * after[axis]) / before[axis]));
    }
    draw();
    if (say) status.textContent = readout.textContent;
  }

  function draw() {
    const { field, step, start, name } = layer();
    const [top, left] = [start + step * state.row, start + step * state.column];
    const { source } = data.pictures[state.picture];
    if (picture.getAttribute("src") !== source) picture.src = source;
    picture.alt = nameOf(state.picture);
    grid.node.setAttribute("aria-label",
      `${picture.alt}. Arrow keys move the output, Enter pins it, Escape lets it go.`);
    const shares = { top: top / H, left: left / W, height: field / H, width: field / W };
    for (const [side, share] of Object.entries(shares)) frame.style[side] = `${100 * share}%`;
    grid.mark();
    // What is seen, large. Padding is hatched: it is no part of the picture.
    Object.assign(seen, { width: 8 * field, height: 8 * field });
    const context = seen.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#3b528b";
    context.fillRect(0, 0, seen.width, seen.height);
    context.strokeStyle = "#7d93c8";
    for (let x = -seen.height; x < seen.width; x += 8) {
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x + seen.height, seen.height);
      context.stroke();
    }
    context.imageSmoothingEnabled = false;
    if (picture.complete && picture.naturalWidth) context.drawImage(picture, -8 * left, -8 * top, 8 * W, 8 * H);
    const inside = (first, count) => Math.max(0, Math.min(first + field, count) - Math.max(first, 0));
    const padding = field * field - inside(top, H) * inside(left, W);
    layerSelect.value = state.layer;
    buttons.forEach((button, number) => button.setAttribute("aria-pressed", number === state.picture));
    caption.textContent = `all that this output sees: ${field}×${field} pixels`;
    readout.textContent = `The output in row ${state.row}, column ${state.column}${state.pinned ? " (pinned)" : ""} ` +
      `after ${name} depends on rows ${whole(top)} to ${top + field - 1} and columns ${whole(left)} to ` +
      `${left + field - 1} of the picture` +
      (padding ? `; ${padding} of these ${field * field} places are padding.` : ".");
    drawn = { top, left, field, padding };
  }

  picture.addEventListener("load", draw);
  root.append(element("div", { className: "aacn-body" },
    element("div", { className: "aacn-row", role: "group", "aria-label": "pictures", hidden: buttons.length < 2 },
      ...buttons),
    element("div", { className: "aacn-row" }, element("label", {}, "map ", layerSelect)),
    element("div", { className: "aacn-stages" },
      element("figure", {}, grid.node, element("figcaption", {}, "picture: point at an output")),
      element("figure", {}, seen, caption)),
    readout,
    element("p", { className: "aacn-note" }, ["Point at the picture. The orange frame is one output of the map, the " +
      "blue one its receptive field; what is striped is padding. A click or tap pins it, a second click there lets " +
      "it go."].join(" ")),
    status));
  choose({}, false);
  return { choose, read: () => ({ ...state, query: [state.row, state.column], size: layer().size, ...drawn }) };
}

const whole = (x) => (x < 0 ? `−${-x}` : `${x}`);
