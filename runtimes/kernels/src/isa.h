// Which instruction set to use: the best that this CPU has, or the one asked for.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace edgewise {

// Those that run on this CPU, the best last.
const std::vector<const Kernels*>& runnable();

// The one in use. EDGEWISE_ISA names it for the whole process, the best where it is not set or cannot be had.
const Kernels& kernels();

enum class Chosen { ok, unknown, lacking };
// `auto` is the best.
Chosen choose(const std::string& name);

}  // namespace edgewise
