// The layout `panels`, version 3: how a quantized matrix lies in the artifact, read in place by every kernel.
//
// Rows (outputs) stand in panels of 16, inputs in blocks that share a scale. A panel holds, one behind the other:
//   codes   4 bits: for every 8 inputs 64 bytes, byte 4r + j = code[r][j] | code[r][4 + j] << 4
//           8 bits: for every 4 inputs 64 bytes, byte 4r + j = code[r][j]
//           4 + n bits, n of 1 and 2: for every 32 / n inputs 64 bytes of upper bits, byte 4r + j having for each i < 4 / n
//                   (code[r][8i + j] >> 4) << n * i | (code[r][8i + 4 + j] >> 4) << 4 + n * i,
//                   then their lower 4 bits as codes of 4 bits
//   scales  float16 [blocks][16], the type that GGUF's, GPTQ's and AWQ's have; keys of the cache, of any size: bfloat16
//   zeros   4 bits: [blocks][8], byte r = zero[r] | zero[8 + r] << 4; else [blocks][16]; absent where symmetric
//   zero bytes up to the next multiple of 64
// so one 512-bit load holds four consecutive inputs of each row. weight = (code - zero) * scale.
#pragma once

#include <cstdint>

namespace edgewise {

constexpr uint32_t kLayoutVersion = 3;
constexpr int kPanelRows = 16;
enum class Scale { float16, bfloat16 };
// Inputs that a kernel multiplies at once; every block size is a multiple.
constexpr int kGroup = 32;
// Bits above the lower four, where these lie apart.
constexpr int upper_bits(int bits) { return bits == 8 ? 0 : bits - 4; }

struct Shape {
  int64_t rows = 0;
  int64_t inputs = 0;
  int bits = 4;
  int block = 32;
  bool zero_points = false;
  // Gate and up rows of an MLP: two halves, their panels in turn.
  bool gated = false;

  int64_t blocks() const { return (inputs + block - 1) / block; }
  int64_t padded_inputs() const { return blocks() * block; }
  int64_t outputs() const { return gated ? rows / 2 : rows; }
  // Panels of one half where gated, of the matrix elsewhere.
  int64_t panels() const { return (outputs() + kPanelRows - 1) / kPanelRows; }
  // Two panels that are multiplied at once: gate and up, or neighbours.
  int64_t pairs() const { return gated ? panels() : (panels() + 1) / 2; }
  int64_t code_bytes() const { return padded_inputs() * kPanelRows * bits / 8; }
  int64_t scale_bytes() const { return blocks() * kPanelRows * 2; }
  int64_t zero_bytes() const { return zero_points ? blocks() * kPanelRows / (bits == 4 ? 2 : 1) : 0; }
  int64_t panel_bytes() const { return (code_bytes() + scale_bytes() + zero_bytes() + 63) / 64 * 64; }
  int64_t bytes() const { return panels() * (gated ? 2 : 1) * panel_bytes(); }

  // Null, or what is wrong with it.
  const char* fault() const {
    // Far above any model; below, no product of sizes overflows.
    constexpr int64_t most = int64_t{1} << 24;
    if (rows < 1 || rows > most) return "rows is not between 1 and 2^24";
    if (inputs < 1 || inputs > most) return "inputs is not between 1 and 2^24";
    if (bits != 4 && bits != 5 && bits != 6 && bits != 8) return "bits is none of 4, 5, 6 and 8";
    if (block != 32 && block != 64 && block != 128) return "block is none of 32, 64 and 128";
    if (gated && rows % 2) return "a gated matrix has an odd number of rows";
    return nullptr;
  }
};

}  // namespace edgewise
