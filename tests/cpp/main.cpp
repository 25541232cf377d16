#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "core/dispatch.h"
#include "rnnfast/error.hpp"

int main(int argc, char** argv) {
    try {
        std::printf("instruction set: %s\n", rnnfast::active().name);
    } catch (const rnnfast::UnsupportedCpu& error) {
        std::printf("skipped: %s\n", error.what());
        return 77;
    }
    return doctest::Context(argc, argv).run();
}
