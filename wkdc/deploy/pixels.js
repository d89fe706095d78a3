// Pixels of a canvas (RGBA, row by row) <-> tensors of the network (N×C×H×W, [-1, 1]).

const GREY = [19595, 38470, 7471]; // of 65536, as ITU-R BT.601 weighs red, green and blue

// The padded length of a side, as the network takes it.
export function paddedSide(side, { multiple, smallest }) {
  return Math.ceil(Math.max(side, smallest) / multiple) * multiple;
}

// The padding below and to the right mirrors the image, or repeats its edge if it is too small.
export function pixelsToTensor(pixels, width, height, model) {
  const [across, down] = [paddedSide(width, model), paddedSide(height, model)];
  const mirrors = across - width < width && down - height < height;
  const columns = sources(across, width, mirrors);
  const rows = sources(down, height, mirrors);
  const plane = across * down;
  const data = new Float32Array(model.in_channels * plane);
  for (let y = 0, to = 0; y < down; y++) {
    for (let x = 0; x < across; x++, to++) {
      const from = 4 * (rows[y] * width + columns[x]);
      if (model.in_channels === 1) {
        let sum = 32768;
        for (let c = 0; c < 3; c++) sum += GREY[c] * pixels[from + c];
        data[to] = (sum >> 16) / 127.5 - 1;
      } else {
        for (let c = 0; c < 3; c++) data[c * plane + to] = pixels[from + c] / 127.5 - 1;
      }
    }
  }
  return { data, dims: [1, model.in_channels, down, across] };
}

// The network's output without the padding, opaque; grey in all three colours.
export function tensorToPixels(data, dims, width, height) {
  const [, channels, down, across] = dims;
  const plane = down * across;
  const pixels = new Uint8ClampedArray(4 * width * height); // which rounds and clips
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 4) {
      const from = y * across + x;
      for (let c = 0; c < 3; c++) {
        pixels[to + c] = (data[(channels === 1 ? 0 : c) * plane + from] + 1) * 127.5;
      }
      pixels[to + 3] = 255;
    }
  }
  return pixels;
}

function sources(padded, side, mirrors) {
  return Int32Array.from({ length: padded }, (_, position) => {
    if (position < side) return position;
    return mirrors ? 2 * (side - 1) - position : side - 1;
  });
}
