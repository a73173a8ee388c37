// Random sequences for attention, their caches, and what double precision makes of a head.
#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "attention.h"
#include "check.h"

namespace edgewise::test {

constexpr uint8_t kUntouched = 0xff;

// What all sequences of a case share; every vector ends where its memory ends.
struct Model {
  AttentionShape shape;
  KvType type;
  bool summary;
  PageShape page;
  int64_t page_bytes;
  std::vector<float> query_norm, key_norm, cos, sin, center, sinks;

  int group() const { return shape.heads / shape.kv_heads; }
};

struct Sequence {
  int64_t tokens;
  std::vector<float> qkv;
};

inline Model random_model(Random& random) {
  Model m;
  AttentionShape& s = m.shape;
  s.kv_heads = static_cast<int>(random.whole(1, 3));
  s.heads = s.kv_heads * static_cast<int>(random.whole(1, 8));
  s.dim = static_cast<int>(random.pick({2, 8, 64, 80, 128}));
  s.value_dim = random.chance() ? s.dim : static_cast<int>(random.pick({1, 16, 48, 65}));
  if (random.whole(0, 19) == 0) s.heads = 20, s.kv_heads = 1, s.dim = 576, s.value_dim = 512;
  s.scale = 1 / std::sqrt(static_cast<float>(s.dim));
  s.window = random.pick({0, 0, 1, 17, 63, 64, 65, 100});
  s.epsilon = 1e-5f;
  s.cap = random.whole(0, 3) ? 0.0f : 3.0f;
  s.layer = static_cast<int>(random.whole(0, 2));
  m.type = static_cast<KvType>(random.whole(0, 3));
  m.summary = random.chance();
  m.page = page_shape(m.type, s.dim, s.value_dim, m.summary);
  m.page_bytes = m.page.bytes * s.kv_heads * (s.layer + random.whole(1, 2));
  if (random.chance()) m.query_norm = random.normals(s.dim), m.key_norm = random.normals(s.dim);
  if (random.chance()) m.sinks = random.normals(s.heads);
  if (random.chance()) m.center = random.normals(static_cast<int64_t>(s.kv_heads) * s.dim, 10.0f);
  return m;
}

inline void add_tables(Model& m, int64_t tokens) {
  for (int64_t position = 0; position < tokens; ++position)
    for (int d = 0; d < m.shape.dim / 2; ++d) {
      const double angle = static_cast<double>(position) * std::pow(1e4, -2.0 * d / m.shape.dim);
      m.cos.push_back(static_cast<float>(std::cos(angle)));
      m.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  m.cos.shrink_to_fit();
  m.sin.shrink_to_fit();
}

inline std::vector<Sequence> random_sequences(const Model& m, Random& random) {
  std::vector<Sequence> all(static_cast<size_t>(random.pick({1, 1, 2, 4})));
  const int64_t most = m.shape.dim > 128 ? 70 : m.shape.dim < 64 ? 400 : 150;
  for (Sequence& q : all) {
    q.tokens = random.chance() ? std::min(most, random.pick({1, 2, 63, 64, 65, 127, 128, 129})) : random.whole(1, most);
    q.qkv = random.normals(q.tokens * m.shape.width());
  }
  return all;
}

inline std::string described(const Model& m, const std::vector<Sequence>& all, uint64_t seed) {
  const AttentionShape& s = m.shape;
  std::string out = "attention --seed " + std::to_string(seed) + " --cases 1: " + std::to_string(s.heads) + " heads over " +
                    std::to_string(s.kv_heads) + " of " + std::to_string(s.dim) + " and " + std::to_string(s.value_dim) +
                    ", KV type " + std::to_string(static_cast<int>(m.type)) + ", window " + std::to_string(s.window) +
                    ", tokens";
  for (const Sequence& q : all) out += " " + std::to_string(q.tokens);
  return out;
}

// One head turned to a position.
inline std::vector<double> at_position(const Model& m, std::vector<double> v, int64_t position) {
  if (m.cos.empty()) return v;
  const int half = m.shape.dim / 2;
  std::vector<double> out(v.size());
  for (int d = 0; d < half; ++d) {
    const double c = m.cos[position * half + d], s = m.sin[position * half + d];
    out[d] = v[d] * c - v[half + d] * s;
    out[half + d] = v[half + d] * c + v[d] * s;
  }
  return out;
}

// One head of one token, normed and turned.
inline std::vector<double> turned(const Model& m, const Sequence& q, int64_t token, int head,
                                  const std::vector<float>& norm) {
  const int dim = m.shape.dim;
  const float* x = q.qkv.data() + token * m.shape.width() + static_cast<int64_t>(head) * dim;
  std::vector<double> v(x, x + dim);
  if (!norm.empty()) {
    double squares = 0;
    for (double each : v) squares += each * each;
    for (int d = 0; d < dim; ++d) v[d] *= norm[d] / std::sqrt(squares / dim + m.shape.epsilon);
  }
  return at_position(m, v, token);
}

// A cache of its own for each sequence, pages in no order.
class Cache {
 public:
  Cache(const Model& m, const std::vector<Sequence>& all, Random& random) : m_(m), held_(all.size(), 0) {
    for (const Sequence& q : all) width_ = std::max(width_, (q.tokens + kPageTokens - 1) / kPageTokens);
    // Some pages are nobody's.
    pages_ = static_cast<int64_t>(all.size()) * width_ + 2;
    std::vector<int32_t> order(static_cast<size_t>(pages_));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[static_cast<size_t>(random.whole(0, i - 1))]);
    table_.assign(order.begin(), order.end() - 2);
    pool_.assign(static_cast<size_t>(pages_ * m.page_bytes), kUntouched);
  }

  // The next `counts[i]` tokens of each sequence; outputs go behind `outs[i]`.
  void run(const std::vector<Sequence>& all, const std::vector<int64_t>& counts, int threads,
           std::vector<std::vector<float>>& outs) {
    const AttentionShape& s = m_.shape;
    std::vector<int32_t> starts{0}, held;
    std::vector<float> qkv;
    for (size_t i = 0; i < all.size(); ++i) {
      const auto from = all[i].qkv.begin() + held_[i] * s.width();
      qkv.insert(qkv.end(), from, from + counts[i] * s.width());
      starts.push_back(starts.back() + static_cast<int32_t>(counts[i]));
      held.push_back(static_cast<int32_t>(held_[i]));
    }
    // What a window has left behind is not looked at.
    std::vector<int32_t> table = table_;
    for (size_t i = 0; i < all.size(); ++i)
      for (int64_t p = 0; s.window && p < (held_[i] + 1 - s.window) / kPageTokens; ++p) table[i * width_ + p] = -1;
    const int64_t wide = static_cast<int64_t>(s.heads) * s.value_dim;
    std::vector<float> out(static_cast<size_t>(starts.back() * wide), std::nanf(""));
    AttentionArguments a;
    a.qkv = qkv.data();
    a.tokens = starts.back();
    a.sequences = static_cast<int64_t>(all.size());
    a.starts = starts.data();
    a.held = held.data();
    a.table = table.data();
    a.table_width = width_;
    a.pool = {pool_.data(), pages_, m_.page_bytes, m_.type, m_.summary};
    a.query_norm = or_null(m_.query_norm);
    a.key_norm = or_null(m_.key_norm);
    a.positions = static_cast<int64_t>(m_.cos.size()) / (s.dim / 2);
    a.cos = or_null(m_.cos);
    a.sin = or_null(m_.sin);
    a.center = or_null(m_.center);
    a.sinks = or_null(m_.sinks);
    a.out = out.data();
    CHECK(fault(s, a).empty());
    attention(s, a, Team::of(threads));
    for (size_t i = 0; i < all.size(); ++i) {
      outs[i].insert(outs[i].end(), out.begin() + starts[i] * wide, out.begin() + starts[i + 1] * wide);
      held_[i] += counts[i];
    }
  }

  const uint8_t* page(size_t sequence, int64_t p, int head) const {
    return pool_.data() + table_[sequence * width_ + p] * m_.page_bytes +
           (static_cast<int64_t>(m_.shape.layer) * m_.shape.kv_heads + head) * m_.page.bytes;
  }

  // Pages of nobody and other layers are as they were.
  void check_untouched() const {
    const int64_t begin = static_cast<int64_t>(m_.shape.layer) * m_.shape.kv_heads * m_.page.bytes;
    const int64_t end = begin + m_.shape.kv_heads * m_.page.bytes;
    for (int64_t p = 0; p < pages_; ++p) {
      const bool mine = std::find(table_.begin(), table_.end(), p) != table_.end();
      for (int64_t b = 0; b < m_.page_bytes; ++b)
        if (!mine || b < begin || b >= end) CHECK(pool_[p * m_.page_bytes + b] == kUntouched);
    }
  }

 private:
  const Model& m_;
  int64_t width_ = 0, pages_ = 0;
  std::vector<int32_t> table_;
  std::vector<int64_t> held_;
  std::vector<uint8_t> pool_;
};

}  // namespace edgewise::test
