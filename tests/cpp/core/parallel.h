// The address test_same_bits.cpp includes: that file keeps its first form, as the bits it guards do.
#pragma once

#include "runtime/parallel.h"
