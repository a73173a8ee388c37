// What arguments of attention have to fit.
#include <algorithm>

#include "attention.h"

namespace edgewise {

const char* AttentionShape::fault() const {
  if (kv_heads < 1 || heads < kv_heads || heads % kv_heads) return "heads are no multiple of KV heads";
  if (heads > 1 << 16) return "there are more than 65536 heads";
  if (dim < 2 || dim % 2 || dim > 1024) return "head_dim is not an even number from 2 to 1024";
  if (value_dim < 1 || value_dim > 1024) return "value_dim is not between 1 and 1024";
  if (window < 0) return "window is negative";
  if (!(scale > 0)) return "scale is not above 0";
  if (!(cap >= 0)) return "softcap is negative";
  if (layer < 0 || layer > 1 << 16) return "layer is not between 0 and 65536";
  return nullptr;
}

std::string fault(const AttentionShape& s, const AttentionArguments& a) {
  if (const char* wrong = s.fault()) return wrong;
  const auto number = [](int64_t n) { return std::to_string(n); };
  if (a.tokens < 0 || a.sequences < 0 || a.table_width < 0) return "a number of tokens, sequences or pages is negative";
  const int64_t type = static_cast<int64_t>(a.pool.type);
  if (type < 0 || type > static_cast<int64_t>(KvType::int4)) return "the KV type is " + number(type) + ", expected 0 to 3";
  const int64_t needed = page_shape(a.pool.type, s.dim, s.value_dim, a.pool.summary).bytes * s.kv_heads * (s.layer + 1);
  if (a.pool.page_bytes < needed)
    return "a page of the pool has " + number(a.pool.page_bytes) + " bytes, layer " + number(s.layer) + " ends at " +
           number(needed);
  for (int64_t i = 0; i < a.sequences; ++i) {
    const int64_t begin = a.starts[i], end = a.starts[i + 1], held = a.held[i], length = held + end - begin;
    if (begin < 0 || end < begin || end > a.tokens || held < 0)
      return "sequence " + number(i) + " has the new tokens " + number(begin) + " to " + number(end) + " of " +
             number(a.tokens) + " behind " + number(held);
    if (a.cos && length > a.positions)
      return "the rotary table has " + number(a.positions) + " positions, too few for the " + number(length) +
             " tokens of sequence " + number(i);
    if (pages_of(length) > a.table_width)
      return "sequence " + number(i) + " has " + number(length) + " tokens, its table has " + number(a.table_width) +
             " pages of " + number(kPageTokens);
    const int64_t oldest = s.window ? std::max<int64_t>(0, held + 1 - s.window) : 0;
    for (int64_t p = oldest / kPageTokens; end > begin && p < pages_of(length); ++p)
      if (const int64_t page = a.table[i * a.table_width + p]; page < 0 || page >= a.pool.pages)
        return "sequence " + number(i) + " has page " + number(page) + " at " + number(p) + ", the pool has " +
               number(a.pool.pages);
  }
  if (a.sequences ? a.starts[0] != 0 || a.starts[a.sequences] != a.tokens : a.tokens != 0)
    return "the sequences do not cover the " + number(a.tokens) + " tokens";
  return "";
}

}  // namespace edgewise
