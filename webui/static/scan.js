// Reads a label with the camera, where the browser can do that itself; typing and pasting always work.
(() => {
  "use strict";
  const form = document.querySelector("[data-scan]");
  if (!form) return;
  const button = form.querySelector("[data-camera]"), view = form.querySelector("[data-view]");
  const says = form.querySelector("[data-scan-says]"), text = form.elements.namedItem("text");
  const WHOLE = "Scan with the camera", LOOK_MS = 200;
  let stream = null;

  const say = (words) => { says.textContent = words; says.hidden = !words; };
  const stop = () => {
    if (stream) for (const track of stream.getTracks()) track.stop();
    stream = null;
    view.hidden = true;
    button.textContent = WHOLE;
  };
  const look = async (detector) => {
    while (stream) {
      let codes = [];
      try { codes = await detector.detect(view); } catch { /* no picture yet */ }
      const code = codes.find((each) => each.rawValue);
      if (code && stream) {
        stop();
        text.value = code.rawValue;
        form.requestSubmit();
        return;
      }
      await new Promise((done) => setTimeout(done, LOOK_MS));
    }
  };
  const start = async (detector) => {
    say("Hold the code in front of the camera.");
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      say(error.name === "NotAllowedError" ? "The browser did not allow the camera. Type or paste what the label says."
        : "No camera can be used here. Type or paste what the label says.");
      return;
    }
    view.srcObject = stream;
    view.hidden = false;
    button.textContent = "Stop the camera";
    view.play().catch(() => {}); // stopped before the first picture
    look(detector);
  };

  if (!isSecureContext) {
    say("The camera works only where this page is opened with https. Your phone's own camera app reads the code too: copy its text to here.");
    return;
  }
  if (!("BarcodeDetector" in window) || !navigator.mediaDevices) {
    say("This browser reads no codes itself. Your phone's own camera app does: copy its text to here.");
    return;
  }
  BarcodeDetector.getSupportedFormats().then((known) => {
    const formats = ["qr_code", "data_matrix"].filter((each) => known.includes(each));
    if (!formats.length) return;
    const detector = new BarcodeDetector({ formats });
    button.hidden = false;
    button.addEventListener("click", () => (stream ? stop() : start(detector)));
    addEventListener("pagehide", stop);
  });
})();
