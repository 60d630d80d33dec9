// The programs that scripts/docs-snippets writes from the pages: each is a function, chosen by its name.
#pragma once

#include <cstdio>
#include <iostream>

namespace snippets {

/// A program and its name, known from before main() on.
struct Program {
  using Function = int (*)();

  Program(const char* program_name, Function function) : name(program_name), run(function), next(first) {
    first = this;
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const char* name;
  Function run;
  const Program* next;

  static inline const Program* first = nullptr;
};

/// Between two blocks of one program: ends what the first one printed.
inline void next_block() {
  std::cout << std::flush;
  std::printf("\x1e\n");
}

}  // namespace snippets
