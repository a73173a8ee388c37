#include "c_api.h"

#include <new>
#include <string>

#include "attention.h"
#include "isa.h"
#include "linear.h"
#include "threads.h"

namespace edgewise {
namespace {

thread_local int threads_here = 1;

bool to_shape(const edgewise_shape* from, Shape& shape) {
  shape = {from->rows, from->inputs, from->bits, from->block, from->zero_points != 0, from->gated != 0};
  return shape.fault() == nullptr;
}

}  // namespace

int current_threads() { return threads_here; }
void set_current_threads(int threads) { threads_here = threads; }

}  // namespace edgewise

using namespace edgewise;

uint32_t edgewise_layout_version() { return kLayoutVersion; }
const char* edgewise_version() { return EDGEWISE_VERSION; }

const char* edgewise_isa() { return kernels().name; }

const char* edgewise_isas() {
  static const std::string& names = *new std::string([] {
    std::string joined;
    for (const Kernels* k : runnable()) joined += (joined.empty() ? "" : ",") + std::string(k->name);
    return joined;
  }());
  return names.c_str();
}

int edgewise_set_isa(const char* name) { return static_cast<int>(choose(name)); }

int edgewise_set_threads(int threads) {
  if (threads < 1 || threads > Team::kMostThreads) return 1;
  set_current_threads(threads);
  return 0;
}

int64_t edgewise_bytes(const edgewise_shape* from) {
  Shape shape;
  return to_shape(from, shape) ? shape.bytes() : -1;
}

int edgewise_linear(const edgewise_shape* from, const uint8_t* weights, const float* x, int64_t rows,
                    const float* norm, float epsilon, const float* bias, const float* residual, float* out,
                    int threads) {
  Shape shape;
  if (!to_shape(from, shape) || rows < 0 || threads < 1 || threads > Team::kMostThreads) return 1;
  try {
    linear(shape, {x, rows, weights, norm, epsilon, bias, residual, out}, Team::of(threads));
    return 0;
  } catch (const std::bad_alloc&) {
    return 2;
  }
}

int edgewise_embedding(const edgewise_shape* from, const uint8_t* weights, const int64_t* ids, int64_t count,
                       float* out) {
  Shape shape;
  if (!to_shape(from, shape)) return 1;
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || ids[i] >= shape.rows) return 1;
    embed(shape, weights, ids[i], out + i * shape.inputs);
  }
  return 0;
}

int edgewise_attention(const edgewise_heads* heads, const float* qkv, int64_t tokens, int64_t past, float* keys,
                       float* values, int64_t capacity, const float* query_norm, const float* key_norm,
                       const float* cos, const float* sin, float* out, int threads) {
  if (tokens < 0 || past < 0 || past + tokens > capacity || capacity % kPageTokens) return 1;
  if (threads < 1 || threads > Team::kMostThreads || heads->kv_heads < 1 || heads->heads % heads->kv_heads) return 1;
  if (heads->heads < 1 || heads->heads / heads->kv_heads > kBlockRows || heads->dim < 2 || heads->dim % 2) return 1;
  const AttentionShape shape{heads->heads, heads->kv_heads, heads->dim, heads->scale, heads->window, heads->epsilon};
  try {
    attention(shape, {qkv, tokens, past, keys, values, capacity, query_norm, key_norm, cos, sin, out},
              Team::of(threads));
    return 0;
  } catch (const std::bad_alloc&) {
    return 2;
  }
}
