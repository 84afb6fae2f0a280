package models

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// aliases are second names of keys, by model_type, which transformers takes as well.
var aliases = map[string]map[string]string{
	"gpt2": {"hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"},
	"imagegpt": {"hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head",
		"num_hidden_layers": "n_layer"},
	"gpt_neo": {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"},
	"longt5":  {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers", "head_dim": "d_kv"},
	"led": {"num_attention_heads": "encoder_attention_heads", "hidden_size": "d_model", "attention_probs_dropout_prob": "attention_dropout",
		"initializer_range": "init_std", "num_hidden_layers": "encoder_layers"},
	"bigbird_pegasus": {"num_attention_heads": "encoder_attention_heads", "hidden_size": "d_model", "attention_probs_dropout_prob": "attention_dropout",
		"num_hidden_layers": "encoder_layers"},
}

// byTheirOwnName gives keys with a second name their first one.
func (p *problems) byTheirOwnName(all map[string]json.RawMessage) {
	var modelType string
	if json.Unmarshal(all["model_type"], &modelType) != nil {
		return
	}
	for _, alias := range slices.Sorted(maps.Keys(aliases[modelType])) {
		key := aliases[modelType][alias]
		v, has := all[alias]
		if !has || isNull(v) {
			continue
		}
		if own, both := all[key]; both && !isNull(own) {
			p.want(sameJSON(own, v), alias, v, fmt.Sprintf("what %s is (%s), of which it is a second name: leave one out", key, own))
			continue
		}
		all[key] = v
		delete(all, alias)
	}
}

// derived checks a key that transformers derives from others, writes, and believes when it reads it again.
func (p *problems) derived(rest extra, key string, value any, from string) {
	v, has := rest[key]
	if !has || isNull(v) {
		return
	}
	want, err := json.Marshal(value)
	p.add(err)
	p.want(sameJSON(v, want), key, v, fmt.Sprintf("%s, as %s says: leave it out", want, from))
}

func isNull(v json.RawMessage) bool { return len(v) == 0 || string(bytes.TrimSpace(v)) == "null" }

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}

// misspelled warns of keys that nothing reads and that look like one that is read.
func misspelled(cfg any, rest extra) (all []string) {
	known := append(jsonKeys(cfg), "architectures", "num_labels", "id2label", "problem_type")
	for _, key := range slices.Sorted(maps.Keys(rest)) {
		if slices.Contains(known, key) || slices.Contains(unread, key) {
			continue
		}
		if meant := config.Misspelt(key, known); meant != "" {
			all = append(all, fmt.Sprintf("config.json: nothing reads %s: did you mean %s?", key, meant))
		}
	}
	return all
}

// unread are keys of transformers' configs that do not change what is computed here, or that are read as part of others.
var unread = strings.Fields(`_name_or_path add_cross_attention attention_layers attention_probs_dropout_prob attention_mode axial_norm_std
 bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward chunk_size_lm_head classifier_dropout cross_attention_hidden_size decoder_start_token_id
 dense_act_fn directionality diversity_penalty do_sample dtype early_stopping encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
 finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing hidden_size ignore_attention_mask initializer_range is_decoder is_encoder_decoder
 is_gated_act label2id length_penalty max_length min_length model_max_length n_ctx name_or_path no_repeat_ngram_size num_attention_heads num_beam_groups
 num_beams num_hidden_layers num_return_sequences onnx_export output_attentions output_hidden_states output_past output_scores pad_token_id pooler_fc_size
 pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type prefix pruned_heads remove_invalid_values reorder_and_upcast_attn
 repetition_penalty return_dict return_dict_in_generate scale_embedding sep_token_id summary_activation summary_first_dropout summary_proj_to_labels
 summary_type summary_use_proj suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class
 top_k top_p torch_dtype torchscript transformers_version typical_p use_bfloat16 use_cache`)
