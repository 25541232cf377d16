#include <rnnfast/rnnfast.h>

#include <cstdio>

int main() {
    std::printf("rnnfast %s\n", rnnfast_version());
    return rnnfast_abi_version() == RNNFAST_ABI_VERSION ? 0 : 1;
}
