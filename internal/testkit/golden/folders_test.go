package golden

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/models"
)

// TestFolders: small folders of transformers 5.23, each with what is rare: heads and halves that are not tied, types of tokens of GPT-2, padding on the
// left, ends of answers outside of the tokens, several labels at once, a padded target, global tokens whose norm has another epsilon, chunks that come
// round more than once. Beside each stands what it gives in float64, and some gradients.
func TestFolders(t *testing.T) {
	root, err := Root()
	require.NoError(t, err)
	references, err := filepath.Glob(filepath.Join(filepath.Dir(root), "folders", "*", "*", "ref.safetensors"))
	require.NoError(t, err)
	if len(references) == 0 {
		t.Skip("no folders beside " + root) // EURYALE_GOLDEN names cases alone
	}
	for _, reference := range references {
		dir := filepath.Dir(reference)
		t.Run(filepath.Base(filepath.Dir(dir))+"/"+filepath.Base(dir), func(t *testing.T) {
			for _, p := range []Precision{Float32, Float64} {
				l, err := models.Load(dir, p.Dtype())
				require.NoError(t, err)
				require.NoError(t, CheckHead(l.Source.Config))
				c, err := OpenReference(reference)
				require.NoError(t, err)
				results, err := c.CheckModel(l.Model, l.Params, p)
				require.NoError(t, err)
				require.Greater(t, len(results), 2)
				for _, r := range results {
					require.True(t, r.OK, "%v: %s", p, r)
				}
			}
		})
	}
}
