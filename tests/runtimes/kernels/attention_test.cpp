// Attention against double precision, and the same bits from every cut into chunks, batch, instruction set and team.
#include "attention.h"

#include <algorithm>

#include "attention_sequences.h"
#include "isa.h"
#include "pages_reference.h"

namespace edgewise::test {
namespace {

constexpr int kThreads[] = {1, 2, 3, 8};
// What a page's keys are told from.
std::vector<double> center_of(const Model& m, int head, int64_t token) {
  std::vector<double> none(static_cast<size_t>(m.shape.dim), 0.0);
  if (m.center.empty() || !m.page.coded()) return none;
  const float* x = m.center.data() + static_cast<int64_t>(head) * m.shape.dim;
  const int64_t last = static_cast<int64_t>(m.cos.size()) / (m.shape.dim / 2) - 1;
  return at_position(m, {x, x + m.shape.dim}, std::min(token / kPageTokens * kPageTokens + kPageTokens / 2, last));
}

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
        const double rounding = 1e-5 * (1 + std::fabs(exact[d]) + std::fabs(center[d]));
        CHECK(std::fabs(key.values[d] - exact[d]) <= key.steps[d] + rounding);
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
        // Half a unit of each weight, and of the largest weighted value 255 units.
        const double codes = m.page.coded() ? 64.0 / 510 : 0;
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
      trying = what + ", " + set->name + ", " + std::to_string(threads) + " threads, " + std::to_string(calls.size()) +
               " calls";
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
