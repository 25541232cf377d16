#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "bindings/openmp_of_process.h"
#include "ops/cell.h"
#include "runtime/bits.h"
#include "runtime/cores.h"
#include "runtime/dispatch.h"
#include "runtime/machine_rates.h"
#include "runtime/parallel.h"
#include "runtime/sentence.h"

namespace rnnfast::bindings {

namespace {

void register_threads(py::module_& m) {
    m.def("set_num_threads", &set_num_threads, py::arg("threads"));
    m.def("num_threads", &num_threads);
    set_openmp_of_process(function_of_openmp);
    // The indices of a team on another library's OpenMP runtime; none if it has no such team.
    m.def(
        "team_on_openmp_of_process",
        [](size_t threads) {
            constexpr size_t most = 64;
            if (threads < 1 || threads > most)
                refuse({"team_on_openmp_of_process: got ", threads, " threads, expected 1 to ", most});
            std::vector<size_t> sizes(threads), indices;
            run_on_openmp_of_process(
                threads, [](void* job, size_t index, size_t size) { static_cast<size_t*>(job)[index] = size; },
                sizes.data());
            for (size_t i = 0; i < threads; ++i)
                if (sizes[i] != 0) indices.push_back(i);
            return indices;
        },
        py::arg("threads"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace

void register_info(py::module_& m) {
    m.attr("__version__") = RNNFAST_VERSION;
    register_threads(m);
    // The machine's speed, for the bounds of the benchmarks.
    const auto free = py::call_guard<py::gil_scoped_release>();
    m.def("multiply_add_rate", &multiply_add_rate, py::arg("threads"), py::arg("seconds"), free);
    m.def("bf16_rate", &bf16_rate, py::arg("threads"), py::arg("seconds"), free);
    m.def("read_rate", &read_rate, py::arg("bytes"), py::arg("threads"), py::arg("seconds"), free);
    py::class_<CellInfo>(m, "CellInfo")
        .def_readonly("name", &CellInfo::name)
        .def_readonly("description", &CellInfo::description)
        .def_readonly("gate_order", &CellInfo::gate_order)
        .def_readonly("gates", &CellInfo::gates)
        .def_readonly("has_c", &CellInfo::has_c)
        .def_readonly("has_extra", &CellInfo::has_extra)
        .def_readonly("recurrent", &CellInfo::recurrent)
        .def_property_readonly("state_weights", [](const CellInfo& cell) { return cell.state_reads.count; })
        .def(
            "gates_of",
            [](const CellInfo& cell, size_t inputs, size_t hidden) { return cell.reading(inputs, hidden).gates; },
            py::arg("inputs"), py::arg("hidden"));
    m.def("cells", &cells);
    m.def("info", [] {
        py::dict info;
        info["version"] = RNNFAST_VERSION;
#if defined(__clang__)
        info["compiler"] = "clang " __clang_version__;
#else
        info["compiler"] = "gcc " __VERSION__;
#endif
        py::list built, supported, other;
        for (const Isa& isa : isas()) {
            built.append(isa.kernels->name);
            if (isa.supported) supported.append(isa.kernels->name);
        }
        info["isas_built"] = built;
        info["isas_supported"] = supported;
        for (const Isa& isa : isas_of_other_bits())
            if (isa.supported) other.append(isa.kernels->name);
        info["isas_on_request"] = other;
        info["isa_active"] = active().name;
        info["bits"] = bits_of(active());
        info["threads"] = num_threads();
        info["cores_allowed"] = cores_allowed();
        const double quota = cpu_quota();
        info["cpu_quota"] = quota > 0 ? py::object(py::float_(quota)) : py::none();
        info["openmp"] = openmp_version();
        info["openmp_library"] = openmp_version() ? openmp_library() : openmp_of_process();
        return info;
    });
}

}  // namespace rnnfast::bindings
