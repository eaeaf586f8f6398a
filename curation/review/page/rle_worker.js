// Codes large masks beside the page, which must never wait for one.
import { decode, encode } from "./rle.js";

self.onmessage = ({ data: { id, rle, bits, width, height } }) => {
  try {
    if (rle) {
      const decoded = decode(rle);
      self.postMessage({ id, answer: decoded }, [decoded.buffer]);
    } else {
      self.postMessage({ id, answer: encode(bits, width, height) });
    }
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
};
