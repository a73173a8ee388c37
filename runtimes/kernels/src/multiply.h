// Products of 8-bit activations with a panel, for one row (decode) and for many (prefill). Included inside the unnamed
// namespace of each instruction set, behind its `Lanes`.
//
// The sum over a block is an integer, exact in any order. Blocks are then added in order, each as
// float(sum) * (weight scale * activation scale), with no fused multiply-add: a row's result is the same bits in
// every batch, chunk, thread and instruction set.
//
// Lanes offers, for `width` rows at a time:
//   Codes, Ints, Floats      4 codes of each row; a sum of each row; a float of each row
//   scales<kind>(p)          scales, as floats
//   load(p), low(c), high(c) codes as they lie; the nibbles of 4-bit codes
//   low<n>(c, u), high<n>(c, u)  codes of 4 + n bits: nibbles of c, above them the lowest n bits of the same ones of u
//   next<n>(u)               u with the next n bits the lowest in all nibbles; what was above is any
//   Four, broadcast(a)       4 activations for every row
//   Dot<bits>(start)         an accumulator: add(codes, four), sum()
//   steps(bits)              what Dot can add before sum() is to be taken
//   offset(bits)             what Dot takes from every code
//   Weighed(start)           the same for bytes, or nibbles, of values and what weighs them: codes from 0 to 255, in one
//                            row, or in two (weight_planes) of their upper seven bits and their last
//   tile_rows, pair_rows     rows of a tile with one panel, and with two at once, whose sums fill the registers

// The scales of a block, and what takes its zero points out of the sum of row m.
template <int bits, bool zero_points, Scale kind>
struct Block {
  Lanes::Floats scales;
  Lanes::Ints zeros;

  Block(const Product& p, const uint8_t* panel, int64_t b, int part) {
    scales = Lanes::template scales<kind>(panel + p.scales_at + (b * kPanelRows + part * Lanes::width) * 2);
    if (zero_points) {
      const uint8_t* at = panel + p.zeros_at;
      zeros = bits == 4 ? Lanes::zeros4(at + b * 8, part) : Lanes::zeros8(at + b * 16 + part * Lanes::width);
      zeros = Lanes::minus(zeros, Lanes::splat(Lanes::offset(bits)));
    }
  }

  Lanes::Floats term(Lanes::Ints dot, int32_t less, float scale) const {
    if (zero_points) dot = Lanes::plus(dot, Lanes::times(zeros, less));
    return Lanes::product(Lanes::floats(dot), Lanes::scaled(scales, scale));
  }
};

// Bytes of a group of kGroup inputs in all 16 rows.
template <int bits>
constexpr int64_t kGroupBytes = kGroup * kPanelRows * bits / 8;
constexpr int kParts = kPanelRows / Lanes::width;
// Codes in a byte, their lower bits where others lie elsewhere.
template <int bits>
constexpr int kHalves = bits == 8 ? 1 : 2;
// Far enough for the next bytes to be there in time, across the page ends where the CPU's own prefetching stops; scales,
// a stream of their own, as far.
constexpr int kAhead = 4096;
constexpr int kScalesAhead = 16;

// Brings near the line `ahead` bytes behind codes + at, where there are two panels of either.
template <int panels>
inline void bring_near(const uint8_t* codes, int at, int64_t ahead, int64_t stride) {
  if (panels == 1)
    __builtin_prefetch(codes + at + ahead);
  else
    // Into a cache that does not push out what all tiles read.
    for (int n = 0; n < 2; ++n) __builtin_prefetch(codes + ahead + n * stride + at, 0, 2);
}

// Column c of the line of 64 bytes at `line`, and of that in the other panel.
inline Lanes::Codes column(const uint8_t* line, int64_t stride, int c) {
  return Lanes::load(line + c / kParts * stride + c % kParts * Lanes::width * 4);
}

// Adds to `dot` the products of `count` rows of codes, `row` bytes apart, with `groups` groups of inputs of `panels`
// panels, `stride` bytes apart. What lies `ahead` bytes further is brought near. As a function of its own, which GCC prefers
// of so many, it would keep its sums in memory.
template <class Dot, int bits, int count, int panels>
[[gnu::always_inline]] inline void dot_groups(const uint8_t* codes, int64_t stride, int64_t ahead, int groups,
                                              const int8_t* x, int64_t row,
                                              Lanes::Ints (&dot)[count][panels * kParts]) {
  constexpr int columns = panels * kParts, upper = upper_bits(bits), halves = kHalves<bits>;
  for (int g = 0; g < groups; ++g, codes += kGroupBytes<bits>) {
    Dot sums[count][columns];
    for (int m = 0; m < count; ++m)
      for (int c = 0; c < columns; ++c) sums[m][c] = Dot(dot[m][c]);
    Lanes::Codes above[columns];
#pragma GCC unroll 8
    for (int i = 0; i < kSteps / halves; ++i) {
      // Each line of upper bits is in front of those of lower bits that it is for.
      const int at = upper ? (i + 1 + i * upper / 4) * 64 : i * 64;
      if constexpr (upper > 0) {
        const bool fresh = i * upper % 4 == 0;
        if (fresh) bring_near<panels>(codes, at - 64, ahead, stride);
        for (int c = 0; c < columns; ++c)
          above[c] = fresh ? column(codes + at - 64, stride, c) : Lanes::template next<upper>(above[c]);
      }
      bring_near<panels>(codes, at, ahead, stride);
      for (int half = 0; half < halves; ++half) {
        Lanes::Codes w[columns];
        for (int c = 0; c < columns; ++c) {
          w[c] = column(codes + at, stride, c);
          if constexpr (upper > 0)
            w[c] = half ? Lanes::template high<upper>(w[c], above[c]) : Lanes::template low<upper>(w[c], above[c]);
          else if (bits == 4)
            w[c] = half ? Lanes::high(w[c]) : Lanes::low(w[c]);
        }
        for (int m = 0; m < count; ++m) {
          const Lanes::Four four = Lanes::broadcast(x + m * row + g * kGroup + (i * halves + half) * 4);
          for (int c = 0; c < columns; ++c) sums[m][c].add(w[c], four);
        }
      }
      if ((i + 1) * halves % Lanes::steps(bits) == 0)
        for (int m = 0; m < count; ++m)
          for (int c = 0; c < columns; ++c) dot[m][c] = sums[m][c].sum(), sums[m][c] = Dot(dot[m][c]);
    }
  }
}

// The products of a tile of `count` rows with `panels` panels, the second `stride` bytes behind the first. `groups` of a
// block, or 0: as the shape says.
template <int bits, bool zero_points, Scale kind, int groups, int count, int panels>
void multiply_tile(const Product& p, const uint8_t* panel, int64_t stride, const Activations& a, int first,
                   float (*out)[kMostTileRows * kPanelRows]) {
  constexpr int columns = panels * kParts;
  const int each = groups ? groups : p.shape.block / kGroup, block = each * kGroup;
  const uint8_t* codes = panel;
  const uint8_t* scales_here = panel + p.scales_at;
  const int8_t* x = a.codes + first * p.blocks * block;
  const float* scales = a.scales + first * p.blocks;
  const int32_t* less = a.less + first * p.blocks;
  // Not `= {}`: as an array in memory it would be cleared there.
  Lanes::Floats total[count][columns];
  for (int m = 0; m < count; ++m)
    for (int c = 0; c < columns; ++c) total[m][c] = Lanes::Floats{};
  for (int64_t b = 0; b < p.blocks; ++b, scales += count, less += count) {
    if (panels == 1) {
      const int64_t next = b + kScalesAhead;
      __builtin_prefetch(next < p.blocks ? scales_here + next * 32
                                         : scales_here + p.panel_bytes + (next - p.blocks) * 32);
    } else {
      for (int i = 0; i < 2; ++i) __builtin_prefetch(scales_here + p.ahead + i * p.panel_bytes + b * 32, 0, 2);
    }
    Lanes::Ints dot[count][columns];
    for (int m = 0; m < count; ++m)
      for (int c = 0; c < columns; ++c) dot[m][c] = Lanes::splat(zero_points ? 0 : less[m]);
    dot_groups<Lanes::Dot<bits>, bits, count, panels>(codes, stride, panels == 1 ? kAhead : p.ahead, each, x, block, dot);
    codes += each * kGroupBytes<bits>;
    x += count * block;
    for (int c = 0; c < columns; ++c) {
      const Block<bits, zero_points, kind> of(p, panel + c / kParts * stride, b, c % kParts);
      for (int m = 0; m < count; ++m) total[m][c] = Lanes::plus(total[m][c], of.term(dot[m][c], less[m], scales[m]));
    }
  }
  for (int m = 0; m < count; ++m)
    for (int c = 0; c < columns; ++c)
      Lanes::store(out[c / kParts] + m * kPanelRows + c % kParts * Lanes::width, total[m][c]);
}

template <int bits, bool zero_points, Scale kind, int groups, int panels, int count>
void multiply_rows(const Product& p, const uint8_t* panel, int64_t stride, const Activations& a, Tile tile,
                   float (*out)[kMostTileRows * kPanelRows]) {
  if constexpr (count > 1)
    if (tile.rows < count)
      return multiply_rows<bits, zero_points, kind, groups, panels, count - 1>(p, panel, stride, a, tile, out);
  multiply_tile<bits, zero_points, kind, groups, count, panels>(p, panel, stride, a, tile.first, out);
}

// The products of a tile with the panel `index` and, where there are `two`, the one behind it: out [2][rows][16].
template <int bits, bool zero_points, Scale kind, int groups>
void multiply_pair(const Product& p, int64_t index, bool two, const Activations& a, Tile tile,
                   float (*out)[kMostTileRows * kPanelRows]) {
  const uint8_t* panel = p.weights + index * p.panel_bytes;
  if constexpr (Lanes::pair_rows > 0) {
    // The last of an odd number of panels is multiplied twice.
    if (Lanes::pair_rows == Lanes::tile_rows || tile.rows <= Lanes::pair_rows)
      return multiply_rows<bits, zero_points, kind, groups, 2, Lanes::pair_rows>(p, panel, two ? p.panel_bytes : 0, a, tile,
                                                                               out);
  }
  if constexpr (Lanes::pair_rows < Lanes::tile_rows)
    for (int i = 0; i < 1 + two; ++i)
      multiply_rows<bits, zero_points, kind, groups, 1, Lanes::tile_rows>(p, panel + i * p.panel_bytes, 0, a, tile, out + i);
}
