/* Two videos in step: side by side, with a wipe between them, or their difference. */
const LOOKS = ["side", "wipe", "difference"];
const state = { frame: 0, playing: false, look: "side", split: 0.5 };
const [first, second] = data.videos;

function load(address) {
  const image = element("img");
  image.onload = draw;
  image.src = address;
  return image;
}

const sheets = [load(first.sprite), load(second.sprite), load(data.difference)];

/* A frame of a sheet, from `left` to `right` of its width. */
function copy(context, sheet, left, right) {
  const { width, height, columns } = first;
  const x = (state.frame % columns) * width, y = Math.floor(state.frame / columns) * height;
  const from = Math.round(left * width), room = Math.round(right * width) - from;
  if (sheet.complete && room > 0) context.drawImage(sheet, x + from, y, room, height, from, 0, room, height);
}

function paint(canvas, ...layers) {
  const context = canvas.getContext("2d");
  for (const [sheet, left, right] of layers) copy(context, sheet, left, right);
  Object.assign(canvas.dataset, { frame: state.frame, split: state.split });
}

function draw() {
  byId("frame").value = state.frame;
  byId("frame-number").value = `${state.frame + 1} of ${first.frames}`;
  if (state.look === "side") byId("side").querySelectorAll("canvas:not(.map)").forEach((canvas, index) => paint(canvas, [sheets[index], 0, 1]));
  else if (state.look === "wipe") paint(byId("wiped"), [sheets[0], 0, state.split], [sheets[1], state.split, 1]);
  else paint(byId("apart"), [sheets[2], 0, 1]);
}

function sized(canvas) {
  return Object.assign(canvas, { width: first.width, height: first.height });
}

/* Small videos are enlarged by whole factors, as far as there is room. */
function fit(figure) {
  const factor = Math.floor(figure.clientWidth / first.width);
  if (factor) figure.style.setProperty("--shown", `${factor * first.width}px`);
  else figure.style.removeProperty("--shown");
}

function figureOf(view) {
  const figure = element("figure"), caption = element("figcaption");
  caption.append(element("strong", { textContent: view.title }), view.caption);
  const canvas = sized(element("canvas"));
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `video of ${view.title}`);
  figure.append(caption, canvas);
  if (view.decisions.length) figure.append(drawMap(view.decisions, `what was computed of ${view.title}, a row for each chunk`));
  return figure;
}

function look(name) {
  state.look = name;
  document.querySelector(`input[name=look][value=${name}]`).checked = true;
  for (const other of LOOKS) byId(other).hidden = other !== name;
  draw();
}

function split(share) {
  state.split = Math.min(Math.max(share, 0), 1);
  byId("split").value = Math.round(100 * state.split);
  byId("line").style.left = `${100 * state.split}%`;
  draw();
}

function drag(event) {
  const box = byId("wiped").getBoundingClientRect();
  if (event.buttons) split((event.clientX - box.left) / box.width);
}

function play(on) {
  state.playing = on;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(on));
  if (!on) return;
  const from = state.frame, started = performance.now();
  const step = (now) => {
    if (!state.playing) return;
    const frame = (from + Math.max(0, Math.floor((now - started) / 1000 * data.fps))) % first.frames;
    if (frame !== state.frame) { state.frame = frame; draw(); }
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function seek(frame) {
  play(false);
  state.frame = Math.min(Math.max(frame, 0), first.frames - 1);
  draw();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onInput = event.target.matches("input, .scroll");
  if (event.key === " " && !event.target.matches("button, input")) play(!state.playing);
  else if (event.key === "ArrowRight" && !onInput) seek(state.frame + 1);
  else if (event.key === "ArrowLeft" && !onInput) seek(state.frame - 1);
  else if (["1", "2", "3"].includes(event.key)) look(LOOKS[event.key - 1]);
  else return;
  event.preventDefault();
}

function start() {
  byId("side").append(...data.videos.map(figureOf));
  byId("left-name").textContent = `← ${first.title}`;
  byId("right-name").textContent = `${second.title} →`;
  for (const name of ["wiped", "apart"]) sized(byId(name));
  for (const figure of document.querySelectorAll("figure")) new ResizeObserver(() => fit(figure)).observe(figure);
  byId("frame").max = first.frames - 1;
  byId("frame").addEventListener("input", (event) => seek(Number(event.target.value)));
  byId("play").addEventListener("click", () => play(!state.playing));
  byId("look").addEventListener("change", (event) => look(event.target.value));
  byId("split").addEventListener("input", (event) => split(event.target.value / 100));
  byId("wiped").addEventListener("pointerdown", (event) => { byId("wiped").setPointerCapture(event.pointerId); drag(event); });
  byId("wiped").addEventListener("pointermove", drag);
  document.addEventListener("keydown", press);
  look("side");
  split(0.5);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play(true);
}

start();
