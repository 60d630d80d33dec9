// A browser starts no worker for a page that was opened as a file. The site's search gets one that lives in a hidden frame of
// the page instead: it answers on the page's own thread, by the same messages.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];  // messages that came before the script was there
      this.inside = null;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.onload = () => {
        const inside = frame.contentWindow;
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", {data}));
        const script = inside.document.createElement("script");
        script.onload = () => {
          this.inside = inside;
          for (const data of this.waiting.splice(0)) this.postMessage(data);
        };
        script.src = new URL(url, location);
        inside.document.body.append(script);
      };
      document.body.append(frame);
    }
    postMessage(data) {
      if (this.inside) setTimeout(() => this.inside.dispatchEvent(new MessageEvent("message", {data})));
      else this.waiting.push(data);
    }
    terminate() {}
  };
}
