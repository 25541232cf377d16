#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "rnnfast/error.hpp"
#include "runtime/dispatch.h"

int main(int argc, char** argv) {
    try {
        std::printf("instruction set: %s\n", rnnfast::core::active().name);
    } catch (const rnnfast::UnsupportedCpu& error) {
        std::printf("skipped: %s\n", error.what());
        return 77;
    }
    return doctest::Context(argc, argv).run();
}
