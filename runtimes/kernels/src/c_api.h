// The functions that are called from outside: by Python through ctypes, and by the tests.
#pragma once

#include <stdint.h>

#define EDGEWISE_API extern "C" __attribute__((visibility("default")))

// The newest version of the layout that this library reads, as it does all before, and the version of the project it was built from.
EDGEWISE_API uint32_t edgewise_layout_version(void);
EDGEWISE_API const char* edgewise_version(void);

// The instruction set in use; those that run on this CPU, comma-separated, the best last.
EDGEWISE_API const char* edgewise_isa(void);
EDGEWISE_API const char* edgewise_isas(void);
// Use the named one, or `auto`, the best. 0; 1 unknown; 2 lacking on this CPU.
EDGEWISE_API int edgewise_set_isa(const char* name);

// Threads of the kernels of every session that the calling thread opens from now on, 1 to 256. 0; 1 out of range.
EDGEWISE_API int edgewise_set_threads(int threads);

typedef struct {
  int64_t rows, inputs;
  int32_t bits, block, zero_points, gated;
} edgewise_shape;

// Bytes of a matrix in the layout, -1 where there is no such shape.
EDGEWISE_API int64_t edgewise_bytes(const edgewise_shape* shape);

// See LinearArguments in linear.h; norm, bias and residual may be null. 0; 1 no such shape; 2 out of memory.
EDGEWISE_API int edgewise_linear(const edgewise_shape* shape, const uint8_t* weights, const float* x, int64_t rows,
                                 const float* norm, float epsilon, const float* bias, const float* residual,
                                 float* out, int threads);
// Rows `ids` of a matrix as floats [count, inputs]. 0; 1 no such shape or row.
EDGEWISE_API int edgewise_embedding(const edgewise_shape* shape, const uint8_t* weights, const int64_t* ids,
                                    int64_t count, float* out);

typedef struct {
  int32_t heads, kv_heads, dim, value_dim;
  float scale;
  int64_t window;
  float epsilon, cap;
  int32_t layer;
} edgewise_heads;

// See Pool in attention.h.
typedef struct {
  uint8_t* data;
  int64_t pages, page_bytes;
  int32_t type, summary;
} edgewise_pool;

// The version of the layout of pages, and the bytes of one KV head of a page; -1 where there is no such type or size.
EDGEWISE_API uint32_t edgewise_pages_version(void);
EDGEWISE_API int64_t edgewise_page_bytes(int32_t type, int32_t dim, int32_t value_dim, int32_t summary);

// See AttentionArguments in attention.h. 0; 1 what does not fit; 2 out of memory.
EDGEWISE_API int edgewise_attention(const edgewise_heads* heads, const edgewise_pool* pool, const float* qkv,
                                    int64_t tokens, int64_t sequences, const int32_t* starts, const int32_t* held,
                                    const int32_t* table, int64_t table_width, const float* query_norm,
                                    const float* key_norm, const float* cos, const float* sin,
                                    int64_t positions, const float* center, const float* sinks, float* out, int threads);

// Turns every key of `count` pages, each of `heads` KV heads (see shift.h). 0; 1 what does not fit; 2 out of memory.
EDGEWISE_API int edgewise_shift(const edgewise_pool* pool, int32_t dim, int32_t value_dim, int64_t heads,
                                const int32_t* pages, int64_t count, const float* cos, const float* sin, int threads);
