// Pages of the cache read number by number, as runtimes/kernels/src/pages.h describes them.
#pragma once

#include <vector>

#include "pages.h"

namespace edgewise::test {

struct Numbers {
  std::vector<double> values;
  // The most that one of them may be off the number it was made from.
  std::vector<double> steps;
};

Numbers read_key(const PageShape& shape, const uint8_t* page, int token);
Numbers read_value(const PageShape& shape, const uint8_t* page, int token);

}  // namespace edgewise::test
