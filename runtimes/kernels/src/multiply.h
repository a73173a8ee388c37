// Products of 8-bit activations with a panel, for one row (decode) and for many (prefill). Included inside the unnamed
// namespace of each instruction set, behind its `Lanes`.
//
// The sum over a block is an integer, exact in any order. Blocks are then added in order, each as
// float(sum) * (weight scale * activation scale), with no fused multiply-add: a row's result is the same bits in
// every batch, chunk, thread and instruction set.
//
// Lanes offers, for `width` rows at a time:
//   Codes, Ints, Floats      4 codes of each row; a sum of each row; a float of each row
//   load(p), low(c), high(c) codes as they lie; the nibbles of 4-bit codes
//   Four, broadcast(a)       4 activations for every row
//   Dot<bits>                an accumulator: add(codes, four), sum()
//   offset(bits)             what Dot takes from every code

// The scales of a block, and what takes its zero points out of the sum of row m.
template <int bits, bool zero_points>
struct Block {
  Lanes::Floats scales;
  Lanes::Ints zeros;

  Block(const Shape& shape, const uint8_t* panel, int64_t b, int part) {
    const uint8_t* at = panel + shape.code_bytes();
    scales = Lanes::bfloat16(at + (b * kPanelRows + part * Lanes::width) * 2);
    if (zero_points) {
      at += shape.scale_bytes();
      zeros = bits == 4 ? Lanes::zeros4(at + b * 8, part) : Lanes::zeros8(at + b * 16 + part * Lanes::width);
      zeros = Lanes::minus(zeros, Lanes::splat(Lanes::offset(bits)));
    }
  }

  Lanes::Floats term(Lanes::Ints dot, int32_t sum, float scale) const {
    const Lanes::Ints zero = zero_points ? Lanes::times(zeros, sum) : Lanes::splat(sum);
    return Lanes::product(Lanes::floats(Lanes::minus(dot, zero)), Lanes::scaled(scales, scale));
  }
};

// Bytes of a group of kGroup inputs in all 16 rows.
template <int bits>
constexpr int64_t kGroupBytes = kGroup * kPanelRows * bits / 8;
constexpr int kParts = kPanelRows / Lanes::width;
// Rows of activations that share one unpacking of the weights; their sums fill the registers.
constexpr int kTile = 4;
// Far enough for the next bytes to be there in time, across the page ends where the CPU's own prefetching stops; scales,
// a stream of their own, as far.
constexpr int kAhead = 4096;
constexpr int kScalesAhead = 16;

// The products of `count` rows from `first` on; `stream` where the weights are not yet near.
template <int bits, bool zero_points, int groups, int count, bool stream>
void multiply_tile(const Shape& shape, const uint8_t* panel, const Activations& a, int first, float* out) {
  constexpr int block = groups * kGroup;
  const int64_t blocks = shape.blocks();
  const uint8_t* codes = panel;
  const uint8_t* scales_here = panel + shape.code_bytes();
  const uint8_t* scales_next = scales_here + shape.panel_bytes();
  Lanes::Floats total[count][kParts] = {};
  for (int64_t b = 0; b < blocks; ++b) {
    if (stream) {
      const int64_t ahead = b + kScalesAhead;
      __builtin_prefetch(ahead < blocks ? scales_here + ahead * 32 : scales_next + (ahead - blocks) * 32);
    }
    const int8_t* x = a.codes + (b * a.rows + first) * block;
    Lanes::Ints dot[count][kParts] = {};
    for (int g = 0; g < groups; ++g, codes += kGroupBytes<bits>, x += kGroup) {
      Lanes::Dot<bits> sums[count][kParts];
      for (int i = 0; i < kGroupBytes<bits> / 64; ++i) {
        if (stream) __builtin_prefetch(codes + i * 64 + kAhead);
        for (int half = 0; half < 8 / bits; ++half) {
          Lanes::Codes w[kParts];
          for (int p = 0; p < kParts; ++p) {
            w[p] = Lanes::load(codes + i * 64 + p * Lanes::width * 4);
            if (bits == 4) w[p] = half ? Lanes::high(w[p]) : Lanes::low(w[p]);
          }
          for (int m = 0; m < count; ++m) {
            const Lanes::Four four = Lanes::broadcast(x + m * block + (i * (8 / bits) + half) * 4);
            for (int p = 0; p < kParts; ++p) sums[m][p].add(w[p], four);
          }
        }
      }
      for (int m = 0; m < count; ++m)
        for (int p = 0; p < kParts; ++p) dot[m][p] = Lanes::plus(dot[m][p], sums[m][p].sum());
    }
    const int32_t* sums = a.sums + b * a.rows + first;
    const float* scales = a.scales + b * a.rows + first;
    for (int p = 0; p < kParts; ++p) {
      const Block<bits, zero_points> of(shape, panel, b, p);
      for (int m = 0; m < count; ++m) total[m][p] = Lanes::plus(total[m][p], of.term(dot[m][p], sums[m], scales[m]));
    }
  }
  for (int m = 0; m < count; ++m)
    for (int p = 0; p < kParts; ++p) Lanes::store(out + (first + m) * kPanelRows + p * Lanes::width, total[m][p]);
}

template <int bits, bool zero_points, int groups, bool stream>
void multiply_from(const Shape& shape, const uint8_t* panel, const Activations& a, int m, float* out) {
  switch (a.rows - m) {
    case 0:
      return;
    case 1:
      return multiply_tile<bits, zero_points, groups, 1, stream>(shape, panel, a, m, out);
    case 2:
      return multiply_tile<bits, zero_points, groups, 2, stream>(shape, panel, a, m, out);
    case 3:
      return multiply_tile<bits, zero_points, groups, 3, stream>(shape, panel, a, m, out);
    default:
      return multiply_tile<bits, zero_points, groups, kTile, stream>(shape, panel, a, m, out);
  }
}

template <int bits, bool zero_points, int groups>
void multiply_rows(const Shape& shape, const uint8_t* panel, const Activations& a, float* out) {
  multiply_from<bits, zero_points, groups, true>(shape, panel, a, 0, out);
  for (int m = kTile; m < a.rows; m += kTile) multiply_from<bits, zero_points, groups, false>(shape, panel, a, m, out);
}

template <int bits, bool zero_points>
void multiply_blocks(const Shape& shape, const uint8_t* panel, const Activations& a, float* out) {
  switch (shape.block) {
    case 32:
      return multiply_rows<bits, zero_points, 1>(shape, panel, a, out);
    case 64:
      return multiply_rows<bits, zero_points, 2>(shape, panel, a, out);
    default:
      return multiply_rows<bits, zero_points, 4>(shape, panel, a, out);
  }
}

void multiply(const Shape& shape, const uint8_t* panel, const Activations& a, float* out) {
  if (shape.bits == 4)
    shape.zero_points ? multiply_blocks<4, true>(shape, panel, a, out) : multiply_blocks<4, false>(shape, panel, a, out);
  else
    shape.zero_points ? multiply_blocks<8, true>(shape, panel, a, out) : multiply_blocks<8, false>(shape, panel, a, out);
}
