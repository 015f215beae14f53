(* Ranks of entrywise powers and polynomials of a matrix (R4). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

(* The monomials of degree k in the rows of a list, entry by entry: those made without its first row, and those made with it. *)
Section Monomials.
Variables (F : fieldType) (n : nat).
Notation row := 'rV[F]_n.
Implicit Types (x y : row) (l : seq row).
Definition had x y : row := \row_i (x 0 i * y 0 i).
Definition ones : row := const_mx 1.
Fixpoint mons l : nat -> seq row :=
  fix with_first k := match l, k with
    | _, 0%N => [:: ones]
    | [::], _.+1 => [::]
    | x :: l', k'.+1 => mons l' k ++ [seq had x y | y <- with_first k']
    end.

Lemma monsE x l k : mons (x :: l) k.+1 = mons l k.+1 ++ [seq had x y | y <- mons (x :: l) k]. Proof. by []. Qed.
Lemma mons0 l : mons l 0 = [:: ones]. Proof. by case: l. Qed.
Lemma size_mons l k : size (mons l k) = 'C(size l + k - 1, k).
Proof.
elim: l k => [|x l IH] k; first by case: k => //= k; rewrite add0n subSS subn0 bin_small.
elim: k => [|k IHk]; first by rewrite mons0 bin0.
by rewrite monsE size_cat size_map IH IHk /= !addnS !addSn !subn1 /= binS.
Qed.

Lemma hadC x y : had x y = had y x. Proof. by apply/rowP => i; rewrite !mxE mulrC. Qed.
Lemma hadCA x y z : had x (had y z) = had y (had x z). Proof. by apply/rowP => i; rewrite !mxE mulrCA. Qed.
Lemma had1 x : had ones x = x. Proof. by apply/rowP => i; rewrite !mxE mul1r. Qed.

Lemma mons_next l k x y : x \in l -> y \in mons l k -> had x y \in mons l k.+1.
Proof.
elim: l k x y => // a l IH; elim=> [|k IHk] x y.
  move=> xl; rewrite mons0 inE => /eqP->; rewrite monsE mem_cat; move: xl; rewrite inE => /orP[/eqP->|xl].
    by apply/orP; right; apply/mapP; exists ones; rewrite ?mons0 ?inE.
  by rewrite IH // mons0 inE.
move=> xl ym; rewrite monsE mem_cat; move: xl; rewrite inE => /orP[/eqP->|xl].
  by apply/orP; right; apply/mapP; exists y.
move: ym; rewrite monsE mem_cat => /orP[ym|/mapP[z zm ->]]; first by rewrite IH.
apply/orP; right; apply/mapP; exists (had x z); last exact: hadCA.
by apply: IHk => //; rewrite inE xl orbT.
Qed.

Lemma in_span (X : seq row) x : x \in <<X>>%VS -> exists c : 'I_(size X) -> F, x = \sum_i c i *: X`_i.
Proof. by move=> xX; exists (fun i => coord (in_tuple X) i x); exact: (coord_span (X := in_tuple X)). Qed.
Lemma had_span (X Y : seq row) (U : {vspace row}) : (forall x y, x \in X -> y \in Y -> had x y \in U) ->
  forall x y, x \in <<X>>%VS -> y \in <<Y>>%VS -> had x y \in U.
Proof.
move=> XY x y /in_span[cx ->] /in_span[cy ->].
have -> : had (\sum_i cx i *: X`_i) (\sum_j cy j *: Y`_j) = \sum_i \sum_j (cx i * cy j) *: had X`_i Y`_j.
  apply/rowP => k; rewrite !mxE !summxE mulr_suml; apply: eq_bigr => i _; rewrite summxE mulr_sumr.
  by apply: eq_bigr => j _; rewrite !mxE mulrACA.
by do 2![apply: rpred_sum => ? _]; rewrite rpredZ // XY // mem_nth.
Qed.

Lemma span_next l k x y : x \in <<l>>%VS -> y \in <<mons l k>>%VS -> had x y \in <<mons l k.+1>>%VS.
Proof. by apply: had_span => a b al bm; apply/memv_span/mons_next. Qed.

Definition power k x : row := \row_i x 0 i ^+ k.
Lemma power_span l k x : x \in <<l>>%VS -> power k x \in <<mons l k>>%VS.
Proof.
move=> xl; elim: k => [|k IH].
  rewrite mons0 memv_span // inE; apply/eqP/rowP => i; by rewrite !mxE expr0.
have -> : power k.+1 x = had x (power k x) by apply/rowP => i; rewrite !mxE exprS.
exact: span_next.
Qed.

(* a matrix whose rows lie in the span of a list *)
Lemma rank_span m (A : 'M[F]_(m, n)) (X : seq row) : (forall i, matrix.row i A \in <<X>>%VS) -> (\rank A <= size X)%N.
Proof.
move=> AX; have -> : A = (\matrix_(i, p) coord (in_tuple X) p (matrix.row i A)) *m (\matrix_(p < size X) X`_p).
  apply/row_matrixP => i; rewrite row_mul {1}(coord_span (X := in_tuple X) (AX i)) mulmx_sum_row.
  by apply: eq_bigr => p _; rewrite rowK !mxE.
exact: leq_trans (mxrankM_maxl _ _) (rank_leq_col _).
Qed.
End Monomials.

Section Powers.
Variables (F : fieldType) (n : nat) (C : 'M[F]_n).
Let l := [seq row s (row_base C) | s <- enum 'I_(\rank C)].
Let size_l : size l = \rank C. Proof. by rewrite size_map size_enum_ord. Qed.
Let row_l s : row s (row_base C) \in <<l>>%VS. Proof. by apply/memv_span/map_f; rewrite mem_enum. Qed.
Lemma row_in m (A : 'M[F]_(m, _)) i : row i (A *m row_base C) \in <<l>>%VS.
Proof. by rewrite row_mul mulmx_sum_row rpred_sum // => s _; rewrite rpredZ. Qed.
Lemma row_C i : row i C \in <<l>>%VS. Proof. by rewrite -[C in row i C](mulmx_base C) row_in. Qed.

Theorem R4_monomials k : (\rank (map_mx (fun x => x ^+ k) C) <= 'C(\rank C + k - 1, k))%N.
Proof.
rewrite -size_l -size_mons; apply: rank_span => i.
have -> : row i (map_mx (fun x => x ^+ k) C) = power k (row i C) by apply/rowP => j; rewrite !mxE.
exact: power_span (row_C i).
Qed.

(* a polynomial of degree below d, without constant term: K for a polynomial phi with E phi = 0 *)
Variables (a : nat -> F) (d : nat).
Definition poly x : F := \sum_(1 <= k < d) a k * x ^+ k.
Lemma row_poly i : row i (map_mx poly C) = \sum_(1 <= k < d) a k *: power k (row i C).
Proof. by apply/rowP => j; rewrite !mxE summxE; apply: eq_bigr => k _; rewrite !mxE. Qed.

Theorem R4_polynomial : (\rank (map_mx poly C) <= \sum_(1 <= k < d) 'C(\rank C + k - 1, k))%N.
Proof.
have -> : (\sum_(1 <= k < d) 'C(\rank C + k - 1, k))%N = size (flatten [seq mons l k | k <- index_iota 1 d]).
  by rewrite size_flatten /shape -map_comp sumnE big_map; apply: eq_bigr => k _ /=; rewrite size_mons size_l.
apply: rank_span => i; rewrite row_poly big_seq; apply: rpred_sum => k kd; rewrite rpredZ //.
apply: subvP (power_span k (row_C i)); apply: sub_span => y ym; apply/flattenP; exists (mons l k) => //; exact: map_f.
Qed.

(* C is a correlation matrix: then monomials of degree k are sums of ones of degree k + 2 *)
Hypothesis sym : C^T = C.
Hypothesis diag : forall i, C i i = 1.
Lemma two_up k x : x \in <<mons l k>>%VS -> x \in <<mons l k.+2>>%VS.
Proof.
move=> xm; pose W := (pinvmx (row_base C))^T *m col_base C.
have AE : (col_base C)^T = W *m row_base C.
  have -> : W *m row_base C = (pinvmx (row_base C))^T *m C by rewrite /W -mulmxA mulmx_base.
  transitivity ((pinvmx (row_base C))^T *m ((row_base C)^T *m (col_base C)^T));
    last by rewrite -[X in _ *m X]trmx_mul mulmx_base sym.
  by rewrite mulmxA -trmx_mul mulmxVp ?row_base_free // trmx1 mul1mx.
have -> : x = \sum_s had (row s (W *m row_base C)) (had (row s (row_base C)) x).
  apply/rowP => i; rewrite summxE -[LHS]mul1r -(diag i) -{1}(mulmx_base C) mxE mulr_suml.
  by apply: eq_bigr => s _; rewrite -AE !mxE mulrA.
by apply: rpred_sum => s _; apply: span_next (row_in _ _) _; apply: span_next.
Qed.
Lemma mons_up k m x : (k <= m)%N -> odd k = odd m -> x \in <<mons l k>>%VS -> x \in <<mons l m>>%VS.
Proof.
move=> le km xm; have even : odd (m - k) = false by rewrite oddB // km addbb.
have -> : m = (k + (m - k)./2.*2)%N by rewrite -[in LHS](subnKC le) -[in LHS](odd_double_half (m - k)) even.
by elim: _./2 => [|j IH]; rewrite ?addn0 // doubleS !addnS; apply: two_up.
Qed.

Theorem R4_sphere m q : odd q != odd m ->
  (forall k, (1 <= k < d)%N -> a k != 0 -> (k <= if odd k == odd m then m else q)%N) ->
  (\rank (map_mx poly C) <= 'C(\rank C + m - 1, m) + 'C(\rank C + q - 1, q))%N.
Proof.
move=> qm deg; rewrite -size_l -!size_mons -size_cat; apply: rank_span => i; rewrite row_poly big_seq.
apply: rpred_sum => k; rewrite mem_index_iota => kd; have [->|ak] := eqVneq (a k) 0; first by rewrite scale0r rpred0.
apply: rpredZ; have := deg k kd ak; have [km le|km le] := eqVneq (odd k) (odd m).
  by apply: subvP (mons_up le km (power_span k (row_C i))); apply: sub_span => y; rewrite mem_cat => ->.
have kq : odd k = odd q by move: km qm; case: (odd k); case: (odd q); case: (odd m).
by apply: subvP (mons_up le kq (power_span k (row_C i))); apply: sub_span => y; rewrite mem_cat orbC => ->.
Qed.
Theorem R4_one_parity m : (forall k, (1 <= k < d)%N -> a k != 0 -> (k <= m)%N /\ odd k = odd m) ->
  (\rank (map_mx poly C) <= 'C(\rank C + m - 1, m))%N.
Proof.
move=> deg; rewrite -size_l -!size_mons; apply: rank_span => i; rewrite row_poly big_seq.
apply: rpred_sum => k; rewrite mem_index_iota => kd; have [->|ak] := eqVneq (a k) 0; first by rewrite scale0r rpred0.
by have [le km] := deg k kd ak; apply/rpredZ/(mons_up le km)/power_span/row_C.
Qed.
End Powers.
