// Attention of a block of query rows to the keys of one head, a page at a time. Included inside the unnamed namespace of each
// instruction set, behind activations.h; Lanes::attend_rows are the rows of a tile whose sums fill the registers.
//
// A page gives each row its maximum, the sum of its weights and its weighted values; pages are then merged in order. Both
// depend on a row's own position only, so a row's result is the same bits in every chunk, batch and thread.

// Rows of b that are asked for ahead of their use: narrow columns of wide rows are no stream that a CPU would follow.
constexpr int kRowsAhead = 12;

// c[r][n] = sum over k of a[r][k] * b[k][n], in the order of k, for `count` rows and n < vectors * kVector.
template <int count, int vectors>
void product_tile(const float* a, int64_t a_row, const float* b, int64_t b_row, int depth, float* c, int64_t c_row) {
  // Not `= {}`: as an array in memory it would be cleared there.
  Vector sums[count][vectors];
  for (int r = 0; r < count; ++r)
    for (int v = 0; v < vectors; ++v) sums[r][v] = Vector{};
  for (int k = 0; k < depth; ++k, b += b_row) {
    for (int n = 0; n < vectors * kVector; n += 16) __builtin_prefetch(b + kRowsAhead * b_row + n);
    for (int v = 0; v < vectors; ++v) {
      const Vector right = load(b + v * kVector);
      for (int r = 0; r < count; ++r) sums[r][v] += a[r * a_row + k] * right;
    }
  }
  for (int r = 0; r < count; ++r)
    for (int v = 0; v < vectors; ++v) store(c + r * c_row + v * kVector, sums[r][v]);
}

template <int count>
void product_rows(const float* a, int64_t a_row, const float* b, int64_t b_row, int depth, int columns, float* c,
                  int64_t c_row) {
  constexpr int wide = 4;
  int n = 0;
  for (; n + wide * kVector <= columns; n += wide * kVector)
    product_tile<count, wide>(a, a_row, b + n, b_row, depth, c + n, c_row);
  for (; n + kVector <= columns; n += kVector) product_tile<count, 1>(a, a_row, b + n, b_row, depth, c + n, c_row);
  for (; n < columns; ++n)
    for (int r = 0; r < count; ++r) {
      float sum = 0.0f;
      for (int k = 0; k < depth; ++k) sum += a[r * a_row + k] * b[k * b_row + n];
      c[r * c_row + n] = sum;
    }
}

template <int count>
void product_of(int rows, const float* a, int64_t a_row, const float* b, int64_t b_row, int depth, int columns, float* c,
                int64_t c_row) {
  if constexpr (count > 1)
    if (rows < count) return product_of<count - 1>(rows, a, a_row, b, b_row, depth, columns, c, c_row);
  product_rows<count>(a, a_row, b, b_row, depth, columns, c, c_row);
}

void product(int rows, const float* a, int64_t a_row, const float* b, int64_t b_row, int depth, int columns, float* c,
             int64_t c_row) {
  constexpr int most = Lanes::attend_rows;
  const int tiles = (rows + most - 1) / most;
  for (int t = 0, done = 0; t < tiles; ++t) {
    const int count = (rows - done) / (tiles - t);
    product_of<most>(count, a + done * a_row, a_row, b, b_row, depth, columns, c + done * c_row, c_row);
    done += count;
  }
}

// Weights of one row in a page from its scores: e^(score - maximum) for keys [first, last), 0 elsewhere below `width`, a
// multiple of 16. The maximum goes to partial[0], the sum to partial[1].
inline void soften(float* scores, int first, int last, int width, float scale, float* partial) {
  constexpr float lowest = -__builtin_inff();
  for (int k = 0; k < first; ++k) scores[k] = lowest;
  for (int k = last; k < width; ++k) scores[k] = lowest;
  Vector tops = splat(lowest);
  for (int k = 0; k < width; k += kVector) {
    const Vector v = load(scores + k) * scale;
    store(scores + k, v);
    tops = v > tops ? v : tops;
  }
  const float top = Lanes::highest(real(tops));
  Vector sums[kSums] = {};
  for (int k = 0; k < width; k += 16)
    for (int j = 0; j < kSums; ++j) {
      const Vector v = load(scores + k + j * kVector) - top;
      const Vector weight = v < splat(-87.0f) ? Vector{} : exponential(v);
      store(scores + k + j * kVector, weight);
      sums[j] += weight;
    }
  partial[0] = top;
  partial[1] = folded(sums);
}

// One page for `rows` queries: partial [rows][2 + dim] gets maximum, sum, weighted values. Row r sees the keys
// [first[r], last[r]) of the page; where that is empty maximum and sum are left as they are, and the values mean nothing.
void attend_page(const Page& page, int rows, const float* queries, const int* first, const int* last, float* partial) {
  alignas(64) float scores[kBlockRows * kPageTokens];
  int depth = 0;
  for (int r = 0; r < rows; ++r) depth = last[r] > depth ? last[r] : depth;
  const int width = (depth + 15) / 16 * 16;
  product(rows, queries, page.dim, page.keys, kPageTokens, page.dim, width, scores, kPageTokens);
  const int64_t stride = 2 + page.dim;
  for (int r = 0; r < rows; ++r) {
    float* row = scores + r * kPageTokens;
    if (first[r] < last[r])
      soften(row, first[r], last[r], width, page.scale, partial + r * stride);
    else
      __builtin_memset(row, 0, sizeof(float) * width);
  }
  product(rows, scores, kPageTokens, page.values, page.dim, depth, page.dim, partial + 2, stride);
}

// state [2 + dim] and the next page's partial become the state of both.
void merge(float* __restrict state, const float* __restrict partial, int dim) {
  const float top = state[0] > partial[0] ? state[0] : partial[0];
  Vector parts = splat(partial[0] - top);
  parts[1] = state[0] - top;
  parts = exponential(parts);
  const float new_part = parts[0], old_part = state[1] > 0.0f ? parts[1] : 0.0f;
  state[0] = top;
  state[1] = state[1] * old_part + partial[1] * new_part;
  for (int d = 0; d < dim; ++d) state[2 + d] = state[2 + d] * old_part + partial[2 + d] * new_part;
}

// One head of one token: RMS norm where `norm` is given, then rotary embedding (arXiv:2104.09864, halves apart) where
// `cos` is, [dim / 2] each.
void turn(const float* x, const float* norm, float epsilon, const float* cos, const float* sin, int dim, float* out) {
  const float factor = norm ? inverse_rms(x, dim, epsilon) : 1.0f;
  for (int d = 0; d < dim; ++d) out[d] = norm ? x[d] * factor * norm[d] : x[d];
  if (!cos) return;
  const int half = dim / 2;
  for (int d = 0; d < half; ++d) {
    const float a = out[d], b = out[half + d];
    out[d] = a * cos[d] - b * sin[d];
    out[half + d] = b * cos[d] + a * sin[d];
  }
}
