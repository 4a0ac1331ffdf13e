// The weights of a loaded model. llama.cpp exports their table as a C++ function alone.
#include <string>
#include <utility>
#include <vector>

struct ggml_tensor;
struct llama_model;

// Declared in llama.cpp's src/llama-model.h, which is not installed.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

extern "C" void samovar_visit_tensors(const llama_model * model, void (*visit)(void *, ggml_tensor *), void * visitor) {
    for (const auto & entry : llama_internal_get_tensor_map(model)) {
        visit(visitor, entry.second);
    }
}
