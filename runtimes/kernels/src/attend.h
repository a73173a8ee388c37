// Attention of a block of query rows to the keys of one head, a page at a time. Included inside the unnamed namespace of
// each instruction set, behind attend_floats.h and attend_codes.h.
//
// A page gives each row its weighted values, its maximum and the sum of its weights; pages are then merged in order. All
// depend on a row's own position only, so a row's result is the same bits in every chunk, batch and thread. Scores come
// times log2(e): powers of two are cheaper.

// The sum of a[i] * b[i], in the one order that every set has.
inline float dot(const float* a, const float* b, int count) {
  Vector sums[kSums] = {};
  int i = 0;
  for (; i + 16 <= count; i += 16)
    for (int j = 0; j < kSums; ++j) sums[j] += load(a + i + j * kVector) * load(b + i + j * kVector);
  float sum = folded(sums);
  for (; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

// cap * tanh(score / cap): soft limits of scores (arXiv:2408.00118), `shift` added first; in and out in base 2.
inline void cap_scores(float* scores, int width, float shift, float cap) {
  for (int k = 0; k < width; k += kVector) {
    const Vector twice = exponential((load(scores + k) + shift) * (2.0f / (cap * kLog2E)));
    store(scores + k, (twice - 1.0f) / (twice + 1.0f) * (cap * kLog2E));
  }
}

// Weights of one row in a page from its scores: 2^(score - maximum) for keys [first, last), 0 elsewhere below `width`, a
// multiple of 16.
template <bool whole_page>
void soften(float* scores, int first, int last, int width, float* maximum, float* sum) {
  if (whole_page) width = kPageTokens;
  constexpr float lowest = -__builtin_inff();
  for (int k = 0; k < first; ++k) scores[k] = lowest;
  for (int k = last; k < width; ++k) scores[k] = lowest;
  Vector tops = splat(lowest);
  for (int k = 0; k < width; k += kVector) {
    const Vector v = load(scores + k);
    tops = v > tops ? v : tops;
  }
  const float top = Lanes::highest(real(tops));
  Vector sums[kSums] = {};
  for (int k = 0; k < width; k += 16)
    for (int j = 0; j < kSums; ++j) {
      const Vector v = load(scores + k + j * kVector) - top;
      const Vector weight = power_of_two(v);
      store(scores + k + j * kVector, weight);
      sums[j] += weight;
    }
  *maximum = top;
  *sum = folded(sums);
}

// One page for `rows` queries: partial [rows][state_stride] gets weighted values, maximum, sum. Row r sees the keys
// [first[r], last[r]) of the page; where that is empty maximum and sum are left as they are, and the values mean nothing.
void attend_page(const Page& page, int rows, const Queries& queries, const int* first, const int* last,
                 float* partial) {
  const PageShape& s = page.shape;
  alignas(64) float scores[kBlockRows * kPageTokens];
  int depth = 0;
  for (int r = 0; r < rows; ++r) depth = last[r] > depth ? last[r] : depth;
  const int step = s.coded() ? kGroup : 16, width = (depth + step - 1) / step * step;
  switch (s.type) {
    case KvType::float32:
      product(rows, queries.floats, s.dim, reinterpret_cast<const float*>(page.data), kPageTokens, s.dim, width, scores,
              kPageTokens);
      break;
    case KvType::float16:
      product(rows, queries.floats, s.dim, reinterpret_cast<const uint16_t*>(page.data), kPageTokens, s.dim, width, scores,
              kPageTokens);
      break;
    case KvType::int8:
      score_codes<8>(page, queries.codes, width, scores);
      break;
    case KvType::int4:
      score_codes<4>(page, queries.codes, width, scores);
      break;
  }
  const int64_t stride = state_stride(s.value_dim);
  const auto soften_row = width == kPageTokens ? soften<true> : soften<false>;
  for (int r = 0; r < rows; ++r) {
    float *row = scores + r * kPageTokens, *to = partial + r * stride + stride - kStateEnd;
    if (first[r] < last[r]) {
      // What the center adds is the same for all keys: without a limit it changes nothing but the maximum.
      const float shift = page.center ? dot(queries.floats + r * s.dim, page.center, s.dim) : 0.0f;
      if (page.cap > 0) cap_scores(row, width, shift, page.cap);
      soften_row(row, first[r], last[r], width, to, to + 1);
      if (!(page.cap > 0)) *to += shift;
    } else {
      __builtin_memset(row, 0, sizeof(float) * width);
    }
  }
  switch (s.type) {
    case KvType::float32:
      return add_values<float>(page, rows, first, last, depth, scores, partial, stride);
    case KvType::float16:
      return add_values<uint16_t>(page, rows, first, last, depth, scores, partial, stride);
    case KvType::int8:
      return add_value_codes<8>(page, rows, width, scores, partial, stride);
    case KvType::int4:
      return add_value_codes<4>(page, rows, width, scores, partial, stride);
  }
}

// The states of `rows` rows and the next page's partials become the states of both; rows that see nothing of it stay.
void merge(int rows, const int* first, const int* last, float* states, const float* partials, int64_t stride) {
  const int64_t end = stride - kStateEnd;
  alignas(64) float old_parts[kBlockRows], new_parts[kBlockRows];
  for (int begin = 0; begin < rows; begin += kVector) {
    const int count = rows - begin < kVector ? rows - begin : kVector;
    alignas(64) float old_tops[kVector] = {}, new_tops[kVector] = {};
    for (int i = 0; i < count; ++i) {
      old_tops[i] = states[(begin + i) * stride + end];
      new_tops[i] = partials[(begin + i) * stride + end];
    }
    const Vector old_top = load(old_tops), new_top = load(new_tops);
    const Vector top = old_top > new_top ? old_top : new_top;
    alignas(64) float tops[kVector];
    store(tops, top);
    store(old_tops, power_of_two(old_top - top));
    store(new_tops, power_of_two(new_top - top));
    for (int i = 0; i < count; ++i) {
      const int r = begin + i;
      float* state = states + r * stride + end;
      old_parts[r] = state[1] > 0.0f ? old_tops[i] : 0.0f;
      new_parts[r] = new_tops[i];
      if (first[r] >= last[r]) continue;
      state[0] = tops[i];
      state[1] = state[1] * old_parts[r] + partials[r * stride + end + 1] * new_parts[r];
    }
  }
  for (int r = 0; r < rows; ++r) {
    if (first[r] >= last[r]) continue;
    float* __restrict state = states + r * stride;
    const float* __restrict partial = partials + r * stride;
    for (int64_t d = 0; d < end; d += kVector)
      store(state + d, load(state + d) * old_parts[r] + load(partial + d) * new_parts[r]);
  }
}
