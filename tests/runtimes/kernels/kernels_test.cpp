// The tests of the kernels: edgewise_kernels_test [--seed N] [--cases N].
#include <cstdio>
#include <cstdlib>
#include <string>

#include "check.h"
#include "isa.h"

int main(int count, char** arguments) {
  edgewise::test::Options options;
  for (int i = 1; i < count; i += 2) {
    const std::string name = arguments[i];
    if (i + 1 == count || (name != "--seed" && name != "--cases")) {
      std::fprintf(stderr, "usage: %s [--seed N] [--cases N]\n", arguments[0]);
      return 2;
    }
    if (name == "--seed")
      options.seed = std::strtoull(arguments[i + 1], nullptr, 10);
    else
      options.cases = std::atoi(arguments[i + 1]);
  }
  std::string sets;
  for (const edgewise::Kernels* k : edgewise::runnable()) sets += std::string(" ") + k->name;
  std::printf("instruction sets:%s\n", sets.c_str());
  // First, while no other test has left a thread behind.
  edgewise::test::test_team(options);
  edgewise::test::test_linear(options);
  edgewise::test::test_attention(options);
  std::puts("passed");
  // Helpers never end; no destructor may meet them.
  std::fflush(stdout);
  std::_Exit(0);
}
