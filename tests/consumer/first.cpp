// One of the two files of a user's program.
#include "use_lpf.hpp"

double first();
double first() { return use_lpf(); }
