#include "c_api.h"

#include <new>
#include <string>

#include "attention.h"
#include "isa.h"
#include "linear.h"
#include "shift.h"
#include "threads.h"

namespace edgewise {
namespace {

thread_local int threads_here = 1;

bool to_shape(const edgewise_shape* from, Shape& shape) {
  shape = {from->rows, from->inputs, from->bits, from->block, from->zero_points != 0, from->gated != 0};
  return shape.fault() == nullptr;
}

Pool pool_of(const edgewise_pool& from) {
  return {from.data, from.pages, from.page_bytes, static_cast<KvType>(from.type), from.summary != 0};
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

uint32_t edgewise_pages_version() { return kPagesVersion; }

int64_t edgewise_page_bytes(int32_t type, int32_t dim, int32_t value_dim, int32_t summary) {
  const AttentionShape shape{1, 1, dim, value_dim, 1.0f};
  if (type < 0 || type > static_cast<int32_t>(KvType::int4) || shape.fault()) return -1;
  return page_shape(static_cast<KvType>(type), dim, value_dim, summary != 0).bytes;
}

int edgewise_attention(const edgewise_heads* heads, const edgewise_pool* pool, const float* qkv, int64_t tokens,
                       int64_t sequences, const int32_t* starts, const int32_t* held, const int32_t* table,
                       int64_t table_width, const float* query_norm, const float* key_norm, const float* cos,
                       const float* sin, int64_t positions, const float* center, const float* sinks, float* out,
                       int threads) {
  if (threads < 1 || threads > Team::kMostThreads) return 1;
  const AttentionShape shape{heads->heads,  heads->kv_heads, heads->dim, heads->value_dim, heads->scale,
                             heads->window, heads->epsilon,  heads->cap, heads->layer};
  AttentionArguments args;
  args.qkv = qkv;
  args.tokens = tokens;
  args.sequences = sequences;
  args.starts = starts;
  args.held = held;
  args.table = table;
  args.table_width = table_width;
  args.pool = pool_of(*pool);
  args.query_norm = query_norm;
  args.key_norm = key_norm;
  args.positions = positions;
  args.cos = cos;
  args.sin = sin;
  args.center = center;
  args.sinks = sinks;
  args.out = out;
  if (!fault(shape, args).empty()) return 1;
  try {
    attention(shape, args, Team::of(threads));
    return 0;
  } catch (const std::bad_alloc&) {
    return 2;
  }
}

int edgewise_shift(const edgewise_pool* pool, int32_t dim, int32_t value_dim, int64_t heads, const int32_t* pages,
                   int64_t count, const float* cos, const float* sin, int threads) {
  if (threads < 1 || threads > Team::kMostThreads) return 1;
  ShiftArguments args;
  args.pool = pool_of(*pool);
  args.dim = dim;
  args.value_dim = value_dim;
  args.heads = heads;
  args.pages = pages;
  args.count = count;
  args.cos = cos;
  args.sin = sin;
  if (!fits(args)) return 1;
  try {
    shift(args, Team::of(threads));
    return 0;
  } catch (const std::bad_alloc&) {
    return 2;
  }
}
