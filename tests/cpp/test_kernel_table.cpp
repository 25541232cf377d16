// Every table is complete, those of instruction sets among them that this CPU lacks.
#include <cstddef>
#include <cstring>
#include <string>

#include "helpers.h"
#include "runtime/dispatch.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

void check_complete(const std::vector<Isa>& all, bool sparse_bf16) {
    for (const Isa& isa : all) {
        const Kernels& k = *isa.kernels;
        CAPTURE(std::string(k.name));
        for (const GemmShape shape : {gemm_wide, gemm_of_3}) {
            for (const auto& precision : k.gemm) {
                const bool sparse = sparse_bf16 || precision[shape].terms != 2;
                CHECK(bool(precision[shape].run));
                CHECK(precision[shape].width % k.lanes == 0);
                CHECK(bool(precision[shape].sparse_words) == sparse);
                CHECK(bool(precision[shape].sparse_terms) == (sparse && precision[shape].terms > 1));
            }
            CHECK(k.gemm[gemm_f32][shape].terms == 1);
            CHECK(bool(k.gemm[gemm_f32][shape].pack));
            CHECK(k.gemm[gemm_bf16][shape].terms == 2);
            CHECK(bool(k.gemm[gemm_bf16][shape].across));
            CHECK(k.gemm[gemm_int8][shape].terms == 4);
            CHECK(bool(k.gemm[gemm_int8][shape].rescale));
        }
        for (const GemmShape shape : {gemm_32, gemm_16}) CHECK(bool(k.gemm[gemm_f32][shape].run));
        // From the cells on, a table holds pointers to functions alone.
        const auto* bytes = reinterpret_cast<const char*>(&k);
        for (size_t at = offsetof(Kernels, cells); at < sizeof k; at += sizeof(void*)) {
            void* entry;
            std::memcpy(&entry, bytes + at, sizeof entry);
            CAPTURE(at);
            CHECK(entry != nullptr);
        }
    }
}

}  // namespace

TEST_CASE("no table lacks a kernel or a precision") {
    check_complete(isas(), true);
    check_complete(isas_of_other_bits(), false);
}
