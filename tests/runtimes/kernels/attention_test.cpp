// Attention against double precision, and the same bits from every cut into chunks, batch, instruction set and team.
#include "attention.h"

#include <algorithm>
#include <numeric>

#include "check.h"
#include "isa.h"
#include "pages_reference.h"

namespace edgewise::test {
namespace {

constexpr int kThreads[] = {1, 2, 3, 8};
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

Model random_model(Random& random) {
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

void add_tables(Model& m, int64_t tokens) {
  for (int64_t position = 0; position < tokens; ++position)
    for (int d = 0; d < m.shape.dim / 2; ++d) {
      const double angle = static_cast<double>(position) * std::pow(1e4, -2.0 * d / m.shape.dim);
      m.cos.push_back(static_cast<float>(std::cos(angle)));
      m.sin.push_back(static_cast<float>(std::sin(angle)));
    }
  m.cos.shrink_to_fit();
  m.sin.shrink_to_fit();
}

std::vector<Sequence> random_sequences(const Model& m, Random& random) {
  std::vector<Sequence> all(static_cast<size_t>(random.pick({1, 1, 2, 4})));
  const int64_t most = m.shape.dim > 128 ? 70 : m.shape.dim < 64 ? 400 : 150;
  for (Sequence& q : all) {
    q.tokens = random.chance() ? std::min(most, random.pick({1, 2, 63, 64, 65, 127, 128, 129})) : random.whole(1, most);
    q.qkv = random.normals(q.tokens * m.shape.width());
  }
  return all;
}

std::string described(const Model& m, const std::vector<Sequence>& all, uint64_t seed) {
  const AttentionShape& s = m.shape;
  std::string out = "attention --seed " + std::to_string(seed) + " --cases 1: " + std::to_string(s.heads) + " heads over " +
                    std::to_string(s.kv_heads) + " of " + std::to_string(s.dim) + " and " + std::to_string(s.value_dim) +
                    ", KV type " + std::to_string(static_cast<int>(m.type)) + ", window " + std::to_string(s.window) + ", tokens";
  for (const Sequence& q : all) out += " " + std::to_string(q.tokens);
  return out;
}

// One head turned to a position.
std::vector<double> at_position(const Model& m, std::vector<double> v, int64_t position) {
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
std::vector<double> turned(const Model& m, const Sequence& q, int64_t token, int head, const std::vector<float>& norm) {
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

// What a page's keys are told from.
std::vector<double> center_of(const Model& m, int head, int64_t token) {
  std::vector<double> none(static_cast<size_t>(m.shape.dim), 0.0);
  if (m.center.empty() || !m.page.coded()) return none;
  const float* x = m.center.data() + static_cast<int64_t>(head) * m.shape.dim;
  const int64_t last = static_cast<int64_t>(m.cos.size()) / (m.shape.dim / 2) - 1;
  return at_position(m, {x, x + m.shape.dim}, std::min(token / kPageTokens * kPageTokens + kPageTokens / 2, last));
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

void check_kept(const Model& m, const Sequence& q, const Cache& cache, size_t index) {
  const AttentionShape& s = m.shape;
  for (int head = 0; head < s.kv_heads; ++head)
    for (int64_t t = 0; t < q.tokens; ++t) {
      const uint8_t* page = cache.page(index, t / kPageTokens, head);
      const int at = static_cast<int>(t % kPageTokens);
      const Numbers key = read_key(m.page, page, at), value = read_value(m.page, page, at);
      std::vector<double> exact = turned(m, q, t, s.heads + head, m.key_norm);
      const std::vector<double> center = center_of(m, head, t);
      for (int d = 0; d < s.dim; ++d) exact[d] -= center[d];
      const float* x = q.qkv.data() + t * s.width() + (s.heads + s.kv_heads) * s.dim + head * s.value_dim;
      for (int d = 0; d < s.dim; ++d) {
        CHECK(std::fabs(key.values[d] - exact[d]) <= key.steps[d] + 1e-5 * (1 + std::fabs(exact[d]) + std::fabs(center[d])));
        if (!m.summary) continue;
        float low, high;
        std::memcpy(&low, page + m.page.summary_at + 4 * d, 4);
        std::memcpy(&high, page + m.page.summary_at + 4 * (s.dim + d), 4);
        CHECK(low <= exact[d] + 1e-3 && exact[d] <= high + 1e-3);
      }
      for (int d = 0; d < s.value_dim; ++d) CHECK(std::fabs(value.values[d] - x[d]) <= value.steps[d]);
    }
}

// Outputs against those of double precision over what the cache holds; codes of queries and weights add their steps.
void check_against_reference(const Model& m, const Sequence& q, const Cache& cache, size_t index,
                             const std::vector<float>& out) {
  const AttentionShape& s = m.shape;
  for (int head = 0; head < s.heads; ++head) {
    std::vector<std::vector<double>> keys, centers, values;
    for (int64_t t = 0; t < q.tokens; ++t) {
      const uint8_t* page = cache.page(index, t / kPageTokens, head / m.group());
      keys.push_back(read_key(m.page, page, static_cast<int>(t % kPageTokens)).values);
      centers.push_back(center_of(m, head / m.group(), t));
      values.push_back(read_value(m.page, page, static_cast<int>(t % kPageTokens)).values);
    }
    for (int64_t t = 0; t < q.tokens; ++t) {
      const std::vector<double> query = turned(m, q, t, head, m.query_norm);
      std::vector<double> step(query.size(), 0.0);
      for (size_t d = 0; m.page.coded() && d < query.size(); d += 32) {
        double top = 0;
        for (size_t e = d; e < std::min(d + 32, query.size()); ++e) top = std::max(top, std::fabs(query[e]));
        for (size_t e = d; e < std::min(d + 32, query.size()); ++e) step[e] = top / 127 / 2;
      }
      const int64_t oldest = s.window ? std::max<int64_t>(0, t + 1 - s.window) : 0;
      std::vector<double> weights;
      double top = m.sinks.empty() ? -1e300 : m.sinks[head], off = 0;
      for (int64_t k = oldest; k <= t; ++k) {
        double score = 0, size = 0, coded = 0;
        for (int d = 0; d < s.dim; ++d) {
          score += query[d] * (keys[k][d] + centers[k][d]) * s.scale;
          size += std::fabs(query[d]) * (std::fabs(keys[k][d]) + std::fabs(centers[k][d])) * s.scale;
          coded += step[d] * std::fabs(keys[k][d]) * s.scale;
        }
        if (s.cap > 0) score = s.cap * std::tanh(score / s.cap);
        weights.push_back(score);
        top = std::max(top, score);
        off = std::max(off, coded + 1e-6 * (4 + size));
      }
      double sum = m.sinks.empty() ? 0 : std::exp(m.sinks[head] - top);
      for (double& w : weights) sum += w = std::exp(w - top);
      for (int d = 0; d < s.value_dim; ++d) {
        double value = 0, largest = 0;
        for (int64_t k = oldest; k <= t; ++k) {
          value += weights[k - oldest] / sum * values[k][d];
          for (const double v : values[k]) largest = std::max(largest, std::fabs(v));
        }
        const double codes = m.page.coded() ? 64.0 / 16383 : 0;
        const double bound = (std::expm1(2 * off) + codes) * largest + 1e-6;
        CHECK(std::fabs(out[(t * s.heads + head) * s.value_dim + d] - value) <= bound);
      }
    }
  }
}

// How many tokens of each sequence each call reads.
using Calls = std::vector<std::vector<int64_t>>;

Calls one_by_one(const std::vector<Sequence>& all) {
  Calls calls;
  for (size_t i = 0; i < all.size(); ++i) {
    calls.emplace_back(all.size(), 0);
    calls.back()[i] = all[i].tokens;
  }
  return calls;
}

// All sequences a call, `most` tokens each at most, some none.
Calls together(const std::vector<Sequence>& all, int64_t most, Random& random) {
  std::vector<int64_t> left;
  for (const Sequence& q : all) left.push_back(q.tokens);
  Calls calls;
  while (std::any_of(left.begin(), left.end(), [](int64_t n) { return n > 0; })) {
    calls.emplace_back();
    for (int64_t& n : left) {
      const int64_t count = std::min(n, random.whole(0, most));
      calls.back().push_back(count);
      n -= count;
    }
  }
  return calls;
}

void test_sequences(uint64_t seed) {
  Random random(seed);
  Model m = random_model(random);
  const std::vector<Sequence> all = random_sequences(m, random);
  if (random.chance()) add_tables(m, std::max_element(all.begin(), all.end(), [](auto& a, auto& b) {
                                       return a.tokens < b.tokens;
                                     })->tokens);
  const std::string what = described(m, all, seed);
  trying = what;
  CHECK(choose("plain") == Chosen::ok);
  std::vector<std::vector<float>> first(all.size());
  {
    Cache cache(m, all, random);
    for (const auto& counts : one_by_one(all)) cache.run(all, counts, 1, first);
    for (size_t i = 0; i < all.size(); ++i) {
      check_kept(m, all[i], cache, i);
      check_against_reference(m, all[i], cache, i, first[i]);
    }
    cache.check_untouched();
  }
  const Calls ways[] = {one_by_one(all), together(all, 1, random), together(all, 7, random), together(all, 200, random)};
  for (const Kernels* set : runnable()) {
    CHECK(choose(set->name) == Chosen::ok);
    int turn = static_cast<int>(random.whole(0, 3));
    for (const Calls& calls : ways) {
      const int threads = kThreads[turn++ % 4];
      trying = what + ", " + set->name + ", " + std::to_string(threads) + " threads, " + std::to_string(calls.size()) + " calls";
      Cache cache(m, all, random);
      std::vector<std::vector<float>> outs(all.size());
      for (const auto& counts : calls) cache.run(all, counts, threads, outs);
      for (size_t i = 0; i < all.size(); ++i) CHECK(same(outs[i], first[i]));
      cache.check_untouched();
    }
  }
}

// A number that is none, in a key or a value, is felt by the tokens that see it and by no other.
void test_not_finite(uint64_t seed) {
  Random random(seed);
  Model m = random_model(random);
  m.shape.window = 0;
  m.sinks.clear();
  Sequence good = {100, random.normals(100 * m.shape.width())}, bad = good;
  const AttentionShape& s = m.shape;
  const int64_t at = random.whole(1, 99);
  const bool in_key = random.chance();
  const int64_t keys = static_cast<int64_t>(s.heads) * s.dim, values = keys + static_cast<int64_t>(s.kv_heads) * s.dim;
  bad.qkv[at * s.width() + (in_key ? keys : values)] = in_key || random.chance() ? std::nanf("") : INFINITY;
  const int64_t wide = static_cast<int64_t>(s.heads) * s.value_dim;
  for (const Kernels* set : runnable()) {
    CHECK(choose(set->name) == Chosen::ok);
    trying = described(m, {good}, seed) + ", not finite at " + std::to_string(at) + ", " + set->name;
    std::vector<std::vector<float>> sound(1), outs(1);
    Cache(m, {good}, random).run({good}, {100}, 2, sound);
    Cache(m, {bad}, random).run({bad}, {100}, 2, outs);
    CHECK(same(outs[0].data(), sound[0].data(), at * wide));
    // The first head of each token that sees it, in its first number.
    for (int64_t t = at; t < 100; ++t) CHECK(!std::isfinite(outs[0][t * wide]));
  }
}

// What does not fit is told before anything is touched.
void test_faults() {
  AttentionShape s;
  s.heads = 2, s.kv_heads = 1, s.dim = s.value_dim = 8, s.scale = 1.0f;
  std::vector<uint8_t> pool(static_cast<size_t>(2 * page_shape(KvType::int8, 8, 8, false).bytes), kUntouched);
  const std::vector<float> qkv(static_cast<size_t>(100 * s.width()), 1.0f);
  std::vector<float> out(100 * 16);
  std::vector<int32_t> starts{0, 10, 10}, held{60, 0}, table{1, 0, -5, 99};
  AttentionArguments a;
  const auto reset = [&] {
    a.qkv = qkv.data();
    a.tokens = 10;
    a.sequences = 2;
    starts = {0, 10, 10}, held = {60, 0}, table = {1, 0, -5, 99};
    a.starts = starts.data(), a.held = held.data(), a.table = table.data();
    a.table_width = 2;
    a.pool = {pool.data(), 2, static_cast<int64_t>(pool.size()) / 2, KvType::int8, false};
    a.out = out.data();
  };
  const auto refused = [&](const char* what) {
    trying = what;
    CHECK(!fault(s, a).empty());
    reset();
  };
  reset();
  trying = "what fits; an empty sequence's table is not looked at";
  CHECK(fault(s, a).empty());
  table[1] = 2, refused("a page behind the pool");
  table[0] = -1, refused("a page before the pool");
  held[0] = 119, refused("a sequence longer than its table");
  held[0] = INT32_MAX, refused("a sequence far longer than its table");
  held[0] = -1, refused("fewer than no tokens held");
  starts[1] = 11, refused("more tokens than there are");
  starts[2] = 9, refused("sequences that go back");
  starts[0] = 1, refused("tokens of no sequence");
  a.pool.page_bytes -= 1, refused("a page that is too small");
  a.pool.type = static_cast<KvType>(4), refused("an unknown type");
  a.pool.type = KvType::float32, refused("a type that does not fit the page");
  s.layer = 1, refused("a layer behind the page");
  s.layer = 0, a.cos = a.sin = out.data(), a.positions = 69, refused("a rotary table that is too short");
  a.cos = a.sin = nullptr, s.heads = 3, s.kv_heads = 2, refused("heads that are not shared evenly");
  CHECK(std::all_of(pool.begin(), pool.end(), [](uint8_t b) { return b == kUntouched; }));
}

}  // namespace

void test_attention(const Options& options) {
  test_faults();
  const int cases = options.cases ? options.cases : 40;
  for (int i = 0; i < cases; ++i) {
    test_sequences(options.seed + static_cast<uint64_t>(i));
    test_not_finite(options.seed + static_cast<uint64_t>(i));
  }
  choose("auto");
}

}  // namespace edgewise::test
