# Makes the comment that opens a header Doxygen's page of that file; formulas, tables and code in it keep their lines.
/^#pragma once/ { rest = 1 }
!rest && /^\/\// {
  if (NR == 1) print "/// @file"
  block = /^\/\/   /
  if (block && !before) print "///"
  before = block
  sub(/^\/\/   /, "//        ")
  sub(/^/, "/")
}
{ print }
