// Attention to a page of floats. Included inside the unnamed namespace of each instruction set, behind vectors.h;
// Lanes::attend_rows are the rows of a tile whose sums fill the registers.

// Half precision, the bits of which are in `v`.
inline Vector from_half(Integers v) {
  const Integers magnitude = v & 0x7fff;
  // 2^112 takes the exponent from a half's bias to a float's, also below the least normal half.
  const Integers finite = bits_of(float_of(magnitude << 13) * 0x1p112f);
  const Integers other = magnitude << 13 | 0x7f800000;
  return float_of((magnitude < 0x7c00 ? finite : other) | (v & 0x8000) << 16);
}

inline Vector load(const uint16_t* p) {
  using Halves = uint16_t __attribute__((vector_size(Lanes::vector_bytes / 2), aligned(2), may_alias));
  return from_half(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), Integers));
}
inline float number(float v) { return v; }
inline float number(uint16_t v) { return from_half(Integers{v})[0]; }

// Rows of b that are asked for ahead of their use: narrow columns of wide rows are no stream that a CPU would follow.
constexpr int kRowsAhead = 12;

// c[r][n] = sum over k of a[r][k] * b[k][n], in the order of k, for `count` rows and n < vectors * kVector.
template <int count, int vectors, class Number>
void product_tile(const float* a, int64_t a_row, const Number* b, int64_t b_row, int depth, float* c, int64_t c_row) {
  // Not `= {}`: as an array in memory it would be cleared there.
  Vector sums[count][vectors];
  for (int r = 0; r < count; ++r)
    for (int v = 0; v < vectors; ++v) sums[r][v] = Vector{};
  for (int k = 0; k < depth; ++k, b += b_row) {
    for (int n = 0; n < vectors * kVector; n += 64 / sizeof(Number))
      __builtin_prefetch(b + kRowsAhead * b_row + n);
    for (int v = 0; v < vectors; ++v) {
      const Vector right = load(b + v * kVector);
      for (int r = 0; r < count; ++r) sums[r][v] += a[r * a_row + k] * right;
    }
  }
  for (int r = 0; r < count; ++r)
    for (int v = 0; v < vectors; ++v) store(c + r * c_row + v * kVector, sums[r][v]);
}

template <int count, class Number>
void product_rows(const float* a, int64_t a_row, const Number* b, int64_t b_row, int depth, int columns, float* c,
                  int64_t c_row) {
  constexpr int wide = 4;
  int n = 0;
  for (; n + wide * kVector <= columns; n += wide * kVector)
    product_tile<count, wide>(a, a_row, b + n, b_row, depth, c + n, c_row);
  for (; n + kVector <= columns; n += kVector) product_tile<count, 1>(a, a_row, b + n, b_row, depth, c + n, c_row);
  for (; n < columns; ++n)
    for (int r = 0; r < count; ++r) {
      float sum = 0.0f;
      for (int k = 0; k < depth; ++k) sum += a[r * a_row + k] * number(b[k * b_row + n]);
      c[r * c_row + n] = sum;
    }
}

template <int count, class Number>
void product_of(int rows, const float* a, int64_t a_row, const Number* b, int64_t b_row, int depth, int columns, float* c,
                int64_t c_row) {
  if constexpr (count > 1)
    if (rows < count) return product_of<count - 1>(rows, a, a_row, b, b_row, depth, columns, c, c_row);
  product_rows<count>(a, a_row, b, b_row, depth, columns, c, c_row);
}

template <class Number>
void product(int rows, const float* a, int64_t a_row, const Number* b, int64_t b_row, int depth, int columns, float* c,
             int64_t c_row) {
  constexpr int most = Lanes::attend_rows;
  const int tiles = (rows + most - 1) / most;
  for (int t = 0, done = 0; t < tiles; ++t) {
    const int count = (rows - done) / (tiles - t);
    product_of<most>(count, a + done * a_row, a_row, b, b_row, depth, columns, c + done * c_row, c_row);
    done += count;
  }
}

// Whether every number is finite: zero times what is not is no number.
inline bool finite(const float* x, int count) {
  float sum = 0.0f;
  for (int i = 0; i < count; ++i) sum += x[i] * 0.0f;
  return sum == 0.0f;
}

// Weighted values of all rows: out [rows][stride].
template <class Number>
void add_values(const Page& page, int rows, const int* first, const int* last, int depth, const float* weights, float* out,
                int64_t stride) {
  const int dim = page.shape.value_dim;
  const Number* values = reinterpret_cast<const Number*>(page.data + page.shape.values_at);
  product(rows, weights, kPageTokens, values, dim, depth, dim, out, stride);
  for (int r = 0; r < rows; ++r) {
    // Zero times a value that is not finite, of a token that the row does not see.
    if (first[r] < last[r] && last[r] - first[r] < depth && !finite(out + r * stride, dim))
      product(1, weights + r * kPageTokens + first[r], kPageTokens, values + first[r] * dim, dim, last[r] - first[r], dim,
              out + r * stride, stride);
  }
}
