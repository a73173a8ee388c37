// Keys that are kept, moved to other positions.
#pragma once

#include <cstdint>

#include "attention.h"
#include "team.h"

namespace edgewise {

struct ShiftArguments {
  Pool pool;
  // Of every key and value.
  int dim = 0;
  int value_dim = 0;
  // Of a page: its layers times their KV heads.
  int64_t heads = 0;
  const int32_t* pages = nullptr;  // [count]: each once
  int64_t count = 0;
  const float* cos = nullptr;      // [dim / 2]: of the angle between the positions, the attention factor left out
  const float* sin = nullptr;
};

// Whether the sizes fit and all pages are among the pool's.
bool fits(const ShiftArguments& arguments);

// Turns every key of the pages, for arguments that fit. What is kept as its distance from a center keeps it. Throws
// std::bad_alloc before anything is written.
void shift(const ShiftArguments& arguments, Team& team);

}  // namespace edgewise
