// docs_snippets NAME runs one program of the pages; without a name it lists them.
#include <cstdio>
#include <exception>
#include <string_view>

#include "snippets.hpp"

int main(int argc, char** argv) {
  for (const snippets::Program* program = snippets::Program::first; program; program = program->next) {
    if (argc < 2) {
      std::printf("%s\n", program->name);
      continue;
    }
    if (argv[1] != std::string_view(program->name)) continue;
    try {
      return program->run();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s\n", e.what());
      return 1;
    }
  }
  if (argc < 2) return 0;
  std::fprintf(stderr, "docs_snippets: no program '%s'\n", argv[1]);
  return 2;
}
