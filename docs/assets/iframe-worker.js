/* Browsers start no Worker from a page on the disk; there the search runs in a hidden frame that takes its place. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.waiting = []
      this.ready = false
      window.addEventListener("message", event => {
        if (event.source !== this.frame.contentWindow) return
        const message = new MessageEvent("message", { data: event.data })
        if (this.onmessage) this.onmessage(message)
        this.dispatchEvent(message)
      })
      document.body.appendChild(this.frame)
      const inside = this.frame.contentDocument
      inside.open()
      inside.write(
        "<script>var toPage = parent; postMessage = message => toPage.postMessage(message, '*');" +
          "importScripts = () => {}</" + "script><script src='" + url + "'></" + "script>"
      )
      inside.close()
      this.frame.contentWindow.addEventListener("load", () => {
        this.ready = true
        this.waiting.splice(0).forEach(message => this.postMessage(message))
      })
    }
    postMessage(message) {
      if (!this.ready) return void this.waiting.push(message)
      this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data: message }))
    }
    terminate() {
      this.frame.remove()
    }
  }
}
