// The tests of the kernels: edgewise_kernels_test [--seed N] [--cases N] [--attention N] [--forks 0] [--sets "plain avx2"].
// `attention` are cases of attention alone; `sets` must be there, and no others.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "check.h"
#include "isa.h"

int main(int count, char** arguments) {
  edgewise::test::Options options;
  int attention = 0;
  std::string expected;
  for (int i = 1; i < count; i += 2) {
    const std::string name = arguments[i];
    const char* value = i + 1 < count ? arguments[i + 1] : nullptr;
    if (value && name == "--seed") {
      options.seed = std::strtoull(value, nullptr, 10);
    } else if (value && name == "--cases") {
      options.cases = std::atoi(value);
    } else if (value && name == "--attention") {
      attention = std::atoi(value);
    } else if (value && name == "--forks") {
      options.forks = std::atoi(value);
    } else if (value && name == "--sets") {
      expected = value;
    } else {
      std::fprintf(stderr, "usage: %s [--seed N] [--cases N] [--attention N] [--forks 0] [--sets NAMES]\n", arguments[0]);
      return 2;
    }
  }
  std::string sets;
  for (const edgewise::Kernels* k : edgewise::runnable()) sets += (sets.empty() ? "" : " ") + std::string(k->name);
  std::printf("instruction sets: %s\n", sets.c_str());
  edgewise::test::trying = "the instruction sets: " + sets;
  CHECK(expected.empty() || sets == expected);
  // First, while no other test has left a thread behind.
  edgewise::test::test_team(options);
  edgewise::test::test_linear(options);
  if (attention) options.cases = attention;
  edgewise::test::test_attention(options);
  std::puts("passed");
  // Helpers never end; no destructor may meet them.
  std::fflush(stdout);
  std::_Exit(0);
}
