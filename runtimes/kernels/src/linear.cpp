#include "linear.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "isa.h"

namespace edgewise {
namespace {

// Bytes of weights in a chunk of work: enough that taking it costs nothing beside it.
constexpr int64_t kChunkBytes = 24 << 10;
// Chunks a thread at least, so that the last to end is not waited for long.
constexpr int64_t kChunksPerThread = 4;

// Memory for quantized activations, kept by the calling thread from call to call.
class Workspace {
 public:
  Activations activations(const Shape& shape, int rows) {
    const int64_t codes = (shape.padded_inputs() * rows + 63) / 64 * 64, scales = shape.blocks() * rows;
    reserve(codes + 8 * scales);
    Activations a;
    a.rows = rows;
    a.codes = reinterpret_cast<int8_t*>(memory_.get());
    a.scales = reinterpret_cast<float*>(memory_.get() + codes);
    a.sums = reinterpret_cast<int32_t*>(memory_.get() + codes + 4 * scales);
    return a;
  }

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };

  void reserve(int64_t bytes) {
    if (bytes <= size_) return;
    memory_.reset();
    size_ = 0;
    const int64_t whole = (bytes + 4095) / 4096 * 4096;
    memory_.reset(static_cast<char*>(std::aligned_alloc(4096, static_cast<size_t>(whole))));
    if (!memory_) throw std::bad_alloc();
    size_ = whole;
  }

  std::unique_ptr<char, Free> memory_;
  int64_t size_ = 0;
};

void add_bias(float* y, const float* bias, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += bias[i];
}

// One tile of at most kTileRows rows, its activations quantized.
struct Tile {
  const Kernels& kernels;
  const Shape& shape;
  const LinearArguments& args;
  const Activations& a;
  int64_t first;  // row of x that row 0 of the activations is

  void panel(int64_t index) const {
    alignas(64) float products[2][kTileRows * kPanelRows];
    const int64_t outputs = shape.outputs(), column = index * kPanelRows;
    const int64_t width = std::min<int64_t>(kPanelRows, outputs - column);
    const int halves = shape.gated ? 2 : 1;
    for (int half = 0; half < halves; ++half) {
      const uint8_t* weights = args.weights + (index * halves + half) * shape.panel_bytes();
      kernels.multiply(shape, weights, a, products[half]);
      if (args.bias)
        for (int m = 0; m < a.rows; ++m)
          add_bias(products[half] + m * kPanelRows, args.bias + half * outputs + column, width);
    }
    if (shape.gated) kernels.gate(products[0], products[1], a.rows * kPanelRows);
    for (int m = 0; m < a.rows; ++m) {
      const int64_t at = (first + m) * outputs + column;
      float* y = products[0] + m * kPanelRows;
      if (args.residual) add_bias(y, args.residual + at, width);
      std::memcpy(args.out + at, y, sizeof(float) * static_cast<size_t>(width));
    }
  }
};

}  // namespace

void linear(const Shape& shape, const LinearArguments& args, Team& team) {
  static thread_local Workspace workspace;
  const Kernels& k = kernels();
  const int64_t panels = shape.panels();
  const int64_t chunk_bytes = shape.panel_bytes() * (shape.gated ? 2 : 1);
  const int64_t by_size = std::max<int64_t>(1, kChunkBytes / chunk_bytes);
  for (int64_t first = 0; first < args.rows; first += kTileRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kTileRows, args.rows - first));
    const Activations a = workspace.activations(shape, rows);
    const auto quantize = [&](int64_t row) {
      k.quantize(shape, args.x + (first + row) * shape.inputs, args.norm, args.epsilon, a, static_cast<int>(row));
    };
    if (rows == 1)
      quantize(0);
    else
      team.run(rows, quantize);
    const int64_t by_threads = std::max<int64_t>(1, panels / (team.threads() * kChunksPerThread));
    const int64_t by_limit = (panels + 0xfffe) / 0xffff;
    const int64_t step = std::max(by_limit, std::min(by_size, by_threads));
    const Tile tile{k, shape, args, a, first};
    const auto work = [&](int64_t chunk) {
      for (int64_t p = chunk * step, end = std::min(panels, p + step); p < end; ++p) tile.panel(p);
    };
    team.run((panels + step - 1) / step, work);
  }
}

void embed(const Shape& shape, const uint8_t* weights, int64_t id, float* out) {
  const int64_t r = id % kPanelRows;
  const uint8_t* panel = weights + id / kPanelRows * shape.panel_bytes();
  const uint8_t* scales = panel + shape.code_bytes();
  const uint8_t* zeros = scales + shape.scale_bytes();
  for (int64_t k = 0; k < shape.inputs; ++k) {
    const int64_t b = k / shape.block;
    int code, zero = 1 << (shape.bits - 1);
    if (shape.bits == 4) {
      code = panel[k / 8 * 64 + 4 * r + k % 4] >> (k % 8 >= 4 ? 4 : 0) & 15;
      if (shape.zero_points) zero = zeros[b * 8 + r % 8] >> (r >= 8 ? 4 : 0) & 15;
    } else {
      code = panel[k / 4 * 64 + 4 * r + k % 4];
      if (shape.zero_points) zero = zeros[b * 16 + r];
    }
    const uint8_t* s = scales + (b * kPanelRows + r) * 2;
    const uint32_t bits = static_cast<uint32_t>(s[0] | s[1] << 8) << 16;
    float scale;
    std::memcpy(&scale, &bits, 4);
    out[k] = static_cast<float>(code - zero) * scale;
  }
}

}  // namespace edgewise
