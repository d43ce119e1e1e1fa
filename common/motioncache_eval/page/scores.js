const shown = { videos: [], frame: 0, frames: 1, fps: 24, playing: false, choice: 0 };

const address = (parts) => parts.map(encodeURIComponent).join("/");
const prompts = () => data.suites[byId("suite").value].prompts;
const fileName = () => `${prompts()[byId("prompt").value]}-${byId("index").value}.mp4`;

/* The video of a preset; only those of the chosen prompt are loaded. */
function figureOf(preset) {
  const suite = byId("suite").value, name = fileName();
  const figure = element("figure"), caption = element("figcaption");
  figure.dataset.preset = preset;
  caption.append(element("strong", { textContent: preset }), scoresOf(preset, name));
  const video = element("video", { muted: true, playsInline: true, preload: "auto" });
  video.setAttribute("aria-label", `video of ${preset}`);
  video.src = address([preset, "videos", suite, name]);
  video.onerror = () => {
    video.replaceWith(element("p", { className: "error", textContent: `The video is not there, or cannot be played: ${decodeURIComponent(video.getAttribute("src"))}` }));
    shown.videos = shown.videos.filter((other) => other !== video);
  };
  figure.append(caption, video);
  new ResizeObserver(() => fit(figure, video)).observe(figure);
  return figure;
}

/* Small videos are enlarged by whole factors, as far as there is room. */
function fit(figure, video) {
  const factor = Math.floor(figure.clientWidth / video.videoWidth);
  if (Number.isFinite(factor) && factor) video.style.width = `${factor * video.videoWidth}px`;
  else video.style.removeProperty("width");
}

function scoresOf(preset, name) {
  const found = data.suites[byId("suite").value].dimensions
    .map((dimension) => [dimension, data.scores[preset]?.[dimension]?.[name]])
    .filter(([, score]) => score !== undefined);
  return found.map(([dimension, score]) => `${dimension} ${score}`).join(", ");
}

async function show() {
  play(false);
  const choice = ++shown.choice;
  for (const video of shown.videos) video.removeAttribute("src");
  byId("side-by-side").replaceChildren(...data.presets.map(figureOf));
  shown.videos = [...byId("side-by-side").querySelectorAll("video")];
  await Promise.all(shown.videos.map((video) => new Promise((done) => {
    video.addEventListener("loadeddata", done);
    video.addEventListener("error", done);
  })));
  if (choice !== shown.choice) return;
  shown.fps = data.fps;
  shown.frames = Math.max(1, ...shown.videos.map((video) => Math.round(video.duration * shown.fps)));
  byId("frame").max = shown.frames - 1;
  for (const video of shown.videos) fit(video.parentElement, video);
  seek(Math.min(shown.frame, shown.frames - 1));
  byId("side-by-side").dataset.loaded = choice;
}

function tell() {
  byId("frame").value = shown.frame;
  byId("frame-number").value = `${shown.frame + 1} of ${shown.frames}`;
}

/* All videos stand on a frame; its middle is farthest from the frames beside it. */
function seek(frame) {
  play(false);
  shown.frame = Math.min(Math.max(frame, 0), shown.frames - 1);
  for (const video of shown.videos) video.currentTime = Math.min((shown.frame + .5) / shown.fps, video.duration || 0);
  tell();
}

function play(on) {
  const was = shown.playing;
  shown.playing = on && shown.videos.length > 0;
  byId("play").textContent = shown.playing ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(shown.playing));
  if (shown.playing) {
    for (const video of shown.videos) video.play();
    requestAnimationFrame(follow);
  } else if (was) {
    for (const video of shown.videos) video.pause();
    seek(shown.frame);
  }
}

/* The first video leads: one that is a frame or more apart from it is put where it is. */
function follow() {
  if (!shown.playing) return;
  const [lead, ...others] = shown.videos;
  if (lead.ended) {
    for (const video of shown.videos) { video.currentTime = 0; video.play(); }
  } else {
    for (const video of others) {
      if (Math.abs(video.currentTime - lead.currentTime) >= 1 / shown.fps && !video.seeking) video.currentTime = lead.currentTime;
    }
  }
  shown.frame = Math.min(Math.floor(lead.currentTime * shown.fps), shown.frames - 1);
  tell();
  requestAnimationFrame(follow);
}

function offerPrompts() {
  const { samples } = data.suites[byId("suite").value];
  byId("prompt").replaceChildren(...prompts().map((prompt, place) => new Option(prompt, place)));
  byId("index").replaceChildren(...Array.from({ length: samples }, (_, index) => new Option(`${index + 1} of ${samples}`, index)));
  byId("index-choice").hidden = samples === 1;
  show();
}

function turn(by) {
  byId("prompt").value = Math.min(Math.max(Number(byId("prompt").value) + by, 0), prompts().length - 1);
  show();
}

function begin() {
  byId("suite").append(...Object.keys(data.suites).map((suite) => new Option(suite, suite)));
  byId("suite").addEventListener("change", offerPrompts);
  byId("prompt").addEventListener("change", show);
  byId("index").addEventListener("change", show);
  byId("play").addEventListener("click", () => play(!shown.playing));
  byId("frame").addEventListener("input", (event) => seek(Number(event.target.value)));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
    if (event.key === " " && !event.target.matches("button")) play(!shown.playing);
    else if (event.key === "ArrowRight" && !event.target.matches("input, .scroll")) seek(shown.frame + 1);
    else if (event.key === "ArrowLeft" && !event.target.matches("input, .scroll")) seek(shown.frame - 1);
    else if (event.key === "n") turn(1);
    else if (event.key === "p") turn(-1);
    else return;
    event.preventDefault();
  });
  offerPrompts();
}

begin();
