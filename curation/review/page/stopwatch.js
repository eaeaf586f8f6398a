// Seconds that a mask was looked at: time in which the page was hidden does not count.

export class Stopwatch {
  #seconds = 0;
  #since = null;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#turn());
    this.restart();
  }

  restart() {
    this.#seconds = 0;
    this.#since = document.hidden ? null : performance.now();
  }

  seconds() {
    return Math.round((this.#seconds + this.#running()) * 10) / 10;
  }

  #running() {
    return this.#since === null ? 0 : (performance.now() - this.#since) / 1000;
  }

  #turn() {
    this.#seconds += this.#running();
    this.#since = document.hidden ? null : performance.now();
  }
}
