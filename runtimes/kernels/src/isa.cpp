#include "isa.h"

#include <atomic>
#include <cstdlib>

#if !defined(EDGEWISE_EMULATE) && defined(EDGEWISE_AVX2)
#include <cpuid.h>
#endif
#ifdef EDGEWISE_NEON
#include <sys/auxv.h>
#endif

namespace edgewise {
namespace {

// CMake names the sets that the compiler knows.
#ifdef EDGEWISE_EMULATE
// Every set's source is compiled to plain code, so every CPU runs it.
bool has_avx2() { return true; }
bool has_avxvnni() { return true; }
bool has_avx512vnni() { return true; }
#else
#ifdef EDGEWISE_AVX2
// Half precision is asked of the CPU itself: GCC 10 has no name for it.
bool has_avx2() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 29));
}
#endif
#ifdef EDGEWISE_AVXVNNI
bool has_avxvnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}
#endif
#ifdef EDGEWISE_AVX512VNNI
bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif
#ifdef EDGEWISE_NEON
// What Linux calls them, in bits that headers older than the CPU do not name.
bool has_neondot() { return getauxval(AT_HWCAP) & 1u << 20; }
bool has_neoni8mm() { return has_neondot() && getauxval(AT_HWCAP2) & 1u << 13; }
#endif
#endif

std::vector<const Kernels*> detect() {
  std::vector<const Kernels*> found{&kPlain};
#ifdef EDGEWISE_AVX2
  if (has_avx2()) found.push_back(&kAvx2);
#endif
#ifdef EDGEWISE_AVXVNNI
  if (has_avxvnni()) found.push_back(&kAvxVnni);
#endif
#ifdef EDGEWISE_AVX512VNNI
  if (has_avx512vnni()) found.push_back(&kAvx512Vnni);
#endif
#ifdef EDGEWISE_NEON
  found.push_back(&kNeon);
#endif
#ifdef EDGEWISE_NEONDOT
  if (has_neondot()) found.push_back(&kNeonDot);
#endif
#ifdef EDGEWISE_NEONI8MM
  if (has_neoni8mm()) found.push_back(&kNeonI8mm);
#endif
  return found;
}

const Kernels* first_choice() {
  if (const char* name = std::getenv("EDGEWISE_ISA"))
    for (const Kernels* k : runnable())
      if (std::string(k->name) == name) return k;
  return runnable().back();
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> value{first_choice()};
  return value;
}

}  // namespace

const std::vector<const Kernels*>& runnable() {
  static const auto& found = *new std::vector<const Kernels*>(detect());
  return found;
}

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

Chosen choose(const std::string& name) {
  if (name == "auto") {
    chosen() = runnable().back();
    return Chosen::ok;
  }
  for (const Kernels* k : runnable())
    if (name == k->name) {
      chosen() = k;
      return Chosen::ok;
    }
  for (const char* known : {"avx2", "avxvnni", "avx512vnni", "neon", "neondot", "neoni8mm"})
    if (name == known) return Chosen::lacking;
  return Chosen::unknown;
}

}  // namespace edgewise
