#include <pybind11/stl.h>

#include "bindings/arrays.h"
#include "models/safetensors.h"

namespace rnnfast::bindings {

namespace {

py::tuple as_python(const SafetensorsFile& file) {
    py::dict tensors;
    for (const auto& [name, tensor] : file.tensors()) {
        Array<float> array(std::vector<py::ssize_t>(tensor.shape.begin(), tensor.shape.end()));
        std::copy_n(tensor.data, tensor.size, array.mutable_data());
        tensors[py::str(name)] = array;
    }
    return py::make_tuple(tensors, file.metadata());
}

}  // namespace

void register_files(py::module_& m) {
    m.def(
        "read_safetensors", [](const std::string& path) { return as_python(SafetensorsFile::open(path)); },
        py::arg("path"));
    m.def(
        "parse_safetensors",
        [](const py::bytes& bytes, const std::string& name) { return as_python(SafetensorsFile::parse(bytes, name)); },
        py::arg("data"), py::arg("name") = "bytes");
    m.def(
        "write_safetensors",
        [](const std::string& path, const std::map<std::string, Array<float>>& arrays,
           const std::map<std::string, std::string>& metadata) {
            std::map<std::string, TensorView> tensors;
            for (const auto& [name, array] : arrays)
                tensors[name] = {
                    {array.shape(), array.shape() + array.ndim()}, array.data(), static_cast<size_t>(array.size())};
            const py::gil_scoped_release release;
            write_safetensors(path, tensors, metadata);
        },
        py::arg("path"), py::arg("tensors"), py::arg("metadata"));
}

}  // namespace rnnfast::bindings
