#include "linear.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "isa.h"
#include "short_floats.h"

namespace edgewise {
namespace {

// Bytes of weights in a unit of work at least: below, taking it costs more than waiting for the last to end.
constexpr int64_t kLeastBytes = 8 << 10;

// Pairs of panels in units of work.
struct Units {
  int64_t pairs;  // in all
  int64_t each;   // of a unit

  explicit Units(const Shape& shape) : pairs(shape.pairs()) {
    each = std::max(int64_t{1}, kLeastBytes / (2 * shape.panel_bytes()));
  }
  int64_t count() const { return (pairs + each - 1) / each; }
};

// Memory of a call, kept by its thread from call to call.
class Workspace {
 public:
  Activations activations(const Shape& shape, int rows, int tile_rows) {
    const int64_t codes = (shape.padded_inputs() * rows + 63) / 64 * 64, scales = shape.blocks() * rows;
    reserve(codes + 8 * scales);
    Activations a;
    a.tiles = Tiles::of(rows, tile_rows);
    a.codes = reinterpret_cast<int8_t*>(memory_.get());
    a.scales = reinterpret_cast<float*>(memory_.get() + codes);
    a.less = reinterpret_cast<int32_t*>(memory_.get() + codes + 4 * scales);
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

}  // namespace

void linear(const Shape& shape, const LinearArguments& args, Team& team) {
  static thread_local Workspace workspace;
  const Kernels& k = kernels();
  const Units units(shape);
  Product product{shape, args.weights, args.bias};
  for (int64_t first = 0; first < args.rows; first += kMostRows) {
    const int rows = static_cast<int>(std::min<int64_t>(kMostRows, args.rows - first));
    const Activations a = workspace.activations(shape, rows, k.tile_rows);
    const auto quantize = [&](int64_t i) {
      const Tile tile = a.tiles[static_cast<int>(i)];
      const float* x = args.x + (first + tile.first) * shape.inputs;
      for (int row = 0; row < tile.rows; ++row)
        k.quantize(shape, x + row * shape.inputs, args.norm, args.epsilon, a, tile, row);
    };
    team.each(a.tiles.count, quantize);
    product.residual = args.residual ? args.residual + first * product.outputs : nullptr;
    product.out = args.out + first * product.outputs;
    team.share(units.count(), [&](int64_t begin, int64_t end) {
      k.multiply(product, a, begin * units.each, std::min(end * units.each, units.pairs));
    });
  }
}

Coming coming(const Shape& shape) {
  const Units units(shape);
  return {2 * shape.panel_bytes() * units.each, units.count()};
}

namespace {

// The code of row r and input k of a panel.
int code_of(const uint8_t* panel, int bits, int64_t r, int64_t k) {
  const int64_t lane = 4 * r + k % 4, eight = k / 8;
  if (bits == 8) return panel[k / 4 * 64 + lane];
  const int half = k % 8 < 4 ? 0 : 4, upper = upper_bits(bits);
  if (!upper) return panel[eight * 64 + lane] >> half & 15;
  const int64_t i = eight % (4 / upper), line = eight + eight * upper / 4;
  const int above = panel[(line - i) * 64 + lane] >> (half + upper * i) & ((1 << upper) - 1);
  return above << 4 | (panel[(line + 1) * 64 + lane] >> half & 15);
}

}  // namespace

void embed(const Shape& shape, const uint8_t* weights, int64_t id, float* out) {
  const int64_t r = id % kPanelRows;
  const uint8_t* panel = weights + id / kPanelRows * shape.panel_bytes();
  const uint8_t* scales = panel + shape.code_bytes();
  const uint8_t* zeros = scales + shape.scale_bytes();
  for (int64_t k = 0; k < shape.inputs; ++k) {
    const int64_t b = k / shape.block;
    int zero = 1 << (shape.bits - 1);
    if (shape.zero_points) zero = shape.bits == 4 ? zeros[b * 8 + r % 8] >> (r >= 8 ? 4 : 0) & 15 : zeros[b * 16 + r];
    const uint8_t* s = scales + (b * kPanelRows + r) * 2;
    const float scale = of_half(static_cast<uint16_t>(s[0] | s[1] << 8));
    out[k] = static_cast<float>(code_of(panel, shape.bits, r, k) - zero) * scale;
  }
}

}  // namespace edgewise
