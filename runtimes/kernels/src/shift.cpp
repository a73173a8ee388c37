#include "shift.h"

#include <vector>

#include "isa.h"

namespace edgewise {

bool fits(const ShiftArguments& a) {
  const AttentionShape shape{1, 1, a.dim, a.value_dim, 1.0f};
  const int type = static_cast<int>(a.pool.type);
  if (type < 0 || type > static_cast<int>(KvType::int4) || shape.fault() || a.heads < 1 || a.count < 0) return false;
  if (page_shape(a.pool.type, a.dim, a.value_dim, a.pool.summary).bytes * a.heads > a.pool.page_bytes) return false;
  for (int64_t i = 0; i < a.count; ++i)
    if (a.pages[i] < 0 || a.pages[i] >= a.pool.pages) return false;
  return true;
}

void shift(const ShiftArguments& a, Team& team) {
  const PageShape page = page_shape(a.pool.type, a.dim, a.value_dim, a.pool.summary);
  const Kernels& k = kernels();
  const int64_t stretches = a.count * a.heads < Team::kMostThreads ? a.count * a.heads : Team::kMostThreads;
  std::vector<float> memory(static_cast<size_t>(2 * a.dim * stretches));
  const int64_t units = a.count * a.heads;
  team.each(stretches, [&](int64_t stretch) {
    for (int64_t unit = units * stretch / stretches; unit < units * (stretch + 1) / stretches; ++unit) {
      uint8_t* head = a.pool.data + a.pages[unit / a.heads] * a.pool.page_bytes + unit % a.heads * page.bytes;
      for (int token = 0; token < kPageTokens; ++token)
        k.turn_kept(page, head, token, a.cos, a.sin, memory.data() + 2 * a.dim * stretch);
    }
  });
}

}  // namespace edgewise
